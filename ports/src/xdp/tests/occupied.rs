//! An interface that has a program already: foreign, of a living agent, left behind, handed over.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::netlink::{self, Which};
use super::super::program::load;
use super::super::{AttachError, Attachment, Mode, Occupant, Owner, PROGRAM_NAME, Program};
use super::super::{AttachMode, AttachOptions, occupant};
use super::{Sockets, filter, vacated};
use crate::bpf;
use crate::bpf::insn::{Asm, Reg};
use crate::common::{Netns, eventually};

const TAKE_OVER: AttachOptions = AttachOptions {
    mode: AttachMode::Either,
    take_over: true,
};

/// A veth `v0` in a namespace, its peer beside it.
fn veth() -> Netns {
    let ns = Netns::new();
    ns.ip("link add v0 type veth peer name v1");
    ns.ip("link set v0 up");
    ns.ip("link set v1 up");
    ns
}

/// A program that passes everything, by that name.
fn passing(name: &str) -> OwnedFd {
    let mut asm = Asm::default();
    asm.mov_imm(Reg::R0, 2);
    asm.exit();
    load(name, &asm.finish(), false).unwrap()
}

fn at_v0(ns: &Netns) -> Option<Occupant> {
    ns.enter(|| occupant("v0").unwrap())
}

fn attach(ns: &Netns, program: &Program, want: AttachOptions) -> Result<Attachment, AttachError> {
    ns.enter(|| Attachment::attach("v0", program, want))
}

/// A process that does nothing but hold a descriptor, until it is killed.
struct Keeper(Child);

impl Keeper {
    fn of(fd: OwnedFd) -> Keeper {
        let child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(fd))
            .spawn();
        Keeper(child.unwrap())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // SIGKILL
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_foreign_program_stays_and_is_named() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = veth();
    let program = sockets.load(&filter(&[4789]));
    let foreign = passing("somebody_else");
    let (id, _) = bpf::prog_info(foreign.as_fd()).unwrap();
    let index = ns.enter(|| netlink::interface(Which::Name("v0")).unwrap().index);

    for mode in [Mode::Native, Mode::Generic] {
        let link = ns.enter(|| bpf::link_create_xdp(foreign.as_fd(), index, mode.flags()).unwrap());
        let link_id = bpf::link_info(link.as_fd()).unwrap().unwrap().id;
        let found = at_v0(&ns).unwrap();
        assert_eq!(
            (
                found.owner,
                found.mode,
                found.program,
                found.name.as_deref(),
                found.link
            ),
            (
                Owner::Foreign,
                mode,
                id,
                Some("somebody_else"),
                Some(link_id)
            )
        );
        let me = std::process::id();
        assert!(
            found.holders.iter().any(|holder| holder.pid == me),
            "{found}"
        );
        for want in [AttachOptions::default(), TAKE_OVER] {
            let begun = Instant::now();
            let error = attach(&ns, &program, want).unwrap_err();
            assert!(begun.elapsed() < Duration::from_secs(1), "not waited for");
            assert!(
                matches!(&error, AttachError::Foreign { occupant, .. } if occupant.program == id)
            );
            let text = error.to_string();
            for part in [
                "v0",
                "somebody_else",
                &id.to_string(),
                &format!("link {link_id}"),
                &me.to_string(),
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        drop(link);
        vacated(&ns, "v0");

        // As `ip link set v0 xdp` does it: without a link.
        ns.enter(|| netlink::set(index, mode, foreign.as_raw_fd(), None).unwrap());
        let found = at_v0(&ns).unwrap();
        assert_eq!((found.owner, found.link), (Owner::Foreign, None));
        let error = attach(&ns, &program, TAKE_OVER).unwrap_err();
        assert!(matches!(error, AttachError::Foreign { .. }), "{error}");
        // Only what is expected there is removed.
        let wrong = ns.enter(|| netlink::detach(index, mode, program.as_fd()));
        assert_eq!(wrong.unwrap_err().raw_os_error(), Some(libc::EEXIST));
        ns.enter(|| netlink::detach(index, mode, foreign.as_fd()).unwrap());
        assert_eq!(at_v0(&ns), None);
    }
    attach(&ns, &program, AttachOptions::default()).unwrap();
}

#[test]
fn a_living_agent_is_waited_for_not_thrown_out() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = veth();
    let program = sockets.load(&filter(&[4789]));
    let first = attach(&ns, &program, AttachOptions::default()).unwrap();
    let second = sockets.load(&filter(&[8472]));
    let error = attach(&ns, &second, AttachOptions::default()).unwrap_err();
    let AttachError::Ours { occupant, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(occupant.name.as_deref(), Some(PROGRAM_NAME));
    assert!(
        occupant.link.is_some() && !occupant.holders.is_empty(),
        "{occupant}"
    );
    assert!(
        error.to_string().contains("stop the other agent"),
        "{error}"
    );
    assert!(first.is_attached());

    // It goes while we wait.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(first);
        });
        let begun = Instant::now();
        attach(&ns, &second, AttachOptions::default()).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(150));
    });
}

#[test]
fn taking_over_ends_the_other_attachment_for_good() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = veth();
    let program = sockets.load(&filter(&[4789]));
    let first = attach(&ns, &program, AttachOptions::default()).unwrap();
    let second = attach(&ns, &program, TAKE_OVER).unwrap();
    assert!(!first.is_attached() && second.is_attached());
    let error = first.replace(&program).unwrap_err();
    assert!(matches!(error, AttachError::Gone { .. }), "{error}");
    let error = ns.enter(|| Attachment::adopt(first.into_fd())).unwrap_err();
    assert!(matches!(error, AttachError::NotALink), "{error}");
    assert!(second.is_attached());
    second.replace(&program).unwrap();
}

#[test]
fn what_a_process_left_behind_goes_with_it_or_is_taken_over() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = veth();
    let program = sockets.load(&filter(&[4789]));
    let leave = || {
        Keeper::of(
            attach(&ns, &program, AttachOptions::default())
                .unwrap()
                .into_fd(),
        )
    };

    let keeper = leave();
    let found = eventually("the process holds it alone", || {
        at_v0(&ns).filter(|found| {
            let pids: Vec<u32> = found.holders.iter().map(|holder| holder.pid).collect();
            pids == [keeper.0.id()]
        })
    });
    assert_eq!(found.owner, Owner::Ours);
    // kill -9
    drop(keeper);
    vacated(&ns, "v0");

    let keeper = leave();
    let ours = attach(&ns, &program, TAKE_OVER).unwrap();
    let link = at_v0(&ns).unwrap().link;
    drop(keeper);
    assert!(ours.is_attached());
    assert_eq!(at_v0(&ns).unwrap().link, link);

    // A restart right after kill -9 needs no more than patience.
    drop(ours);
    let keeper = leave();
    drop(keeper);
    attach(&ns, &program, AttachOptions::default()).unwrap();
}

#[test]
fn ours_without_a_link_is_taken_over() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = veth();
    let program = sockets.load(&filter(&[4789]));
    let index = ns.enter(|| netlink::interface(Which::Name("v0")).unwrap().index);
    for mode in [Mode::Native, Mode::Generic] {
        let orphan = passing(PROGRAM_NAME);
        ns.enter(|| netlink::set(index, mode, orphan.as_raw_fd(), None).unwrap());
        drop(orphan);
        let error = attach(&ns, &program, AttachOptions::default()).unwrap_err();
        assert!(
            matches!(&error, AttachError::Ours { occupant, .. } if occupant.link.is_none()),
            "{error}"
        );
        let attachment = attach(&ns, &program, TAKE_OVER).unwrap();
        assert_eq!(attachment.mode(), Mode::Native);
        assert!(at_v0(&ns).unwrap().link.is_some());
        drop(attachment);
        vacated(&ns, "v0");
    }
}

#[test]
fn a_link_at_an_interface_of_the_same_index_elsewhere_is_left_alone() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    // Interfaces count from the same number in every namespace.
    let (here, there) = (veth(), veth());
    let index = |ns: &Netns| ns.enter(|| netlink::interface(Which::Name("v0")).unwrap().index);
    assert_eq!(index(&here), index(&there));
    let (program, other) = (
        sockets.load(&filter(&[4789])),
        sockets.load(&filter(&[4789])),
    );
    let at_here = attach(&here, &program, AttachOptions::default()).unwrap();
    let at_there = attach(&there, &other, AttachOptions::default()).unwrap();
    let again = attach(&there, &other, TAKE_OVER).unwrap();
    assert!(at_here.is_attached() && !at_there.is_attached() && again.is_attached());
    // One program at both cannot be told apart, so nobody is thrown out.
    at_here.replace(&other).unwrap();
    let error = attach(&there, &program, TAKE_OVER).unwrap_err();
    assert!(matches!(error, AttachError::Ours { .. }), "{error}");
    assert!(at_here.is_attached() && again.is_attached());
}

#[test]
fn a_link_is_handed_over() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = veth();
    let program = sockets.load(&filter(&[4789]));
    let first = attach(&ns, &program, AttachOptions::default()).unwrap();
    let id = at_v0(&ns).unwrap().link;
    let copy = first.as_fd().try_clone_to_owned().unwrap();
    drop(first);
    assert_eq!(at_v0(&ns).unwrap().link, id, "one descriptor is left");
    let second = ns.enter(|| Attachment::adopt(copy)).unwrap();
    assert_eq!((second.interface(), second.mode()), ("v0", Mode::Native));
    assert!(second.is_attached());
    second.replace(&sockets.load(&filter(&[8472]))).unwrap();
    drop(second);
    vacated(&ns, "v0");

    let third = attach(&ns, &program, AttachOptions::default()).unwrap();
    let elsewhere = Netns::new();
    let copy = third.as_fd().try_clone_to_owned().unwrap();
    for fd in [
        copy,
        program.as_fd().try_clone_to_owned().unwrap(),
        sockets.socket.try_clone().unwrap(),
    ] {
        let error = elsewhere.enter(|| Attachment::adopt(fd)).unwrap_err();
        assert!(matches!(error, AttachError::NotALink), "{error}");
    }
}
