//! What interfaces and the kernel refuse, and what the errors say.

use super::super::{AttachError, Attachment, BpfError, Mode, Owner, Program, Refusal};
use super::super::{AttachMode, AttachOptions, XskMap, occupant};
use super::{Sockets, filter};
use crate::common::Netns;

const NATIVE: AttachOptions = AttachOptions {
    mode: AttachMode::Native,
    take_over: false,
};

#[test]
fn a_long_mtu_needs_a_program_for_several_buffers() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = Netns::new();
    ns.ip("link add v0 mtu 9000 type veth peer name v1 mtu 9000");
    ns.ip("link set v0 up");
    let single = sockets.load(&filter(&[4789]));
    let several = Program::load(&filter(&[4789]), &sockets.map, true).unwrap();
    ns.enter(|| {
        let error = Attachment::attach("v0", &single, NATIVE).unwrap_err();
        let AttachError::Refused { refusal, .. } = &error else {
            panic!("{error}")
        };
        assert!(
            matches!(
                refusal,
                Refusal::Mtu {
                    mtu: 9000,
                    limit: 3000..4000,
                    ..
                }
            ),
            "{error}"
        );
        let attachment = Attachment::attach("v0", &single, AttachOptions::default()).unwrap();
        assert_eq!(attachment.mode(), Mode::Generic);
        assert!(matches!(attachment.fell_back(), Some(Refusal::Mtu { .. })));
        drop(attachment);

        let attachment = Attachment::attach("v0", &several, NATIVE).unwrap();
        let error = attachment.replace(&single).unwrap_err();
        assert!(error.to_string().contains("MTU of 9000"), "{error}");
        assert!(attachment.is_attached(), "the one before stays");
        attachment.replace(&several).unwrap();
    });
}

/// A kernel with other pages has another limit, and the one named is to be true.
#[test]
fn the_limit_named_is_the_limit() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = Netns::new();
    ns.ip("link add v0 mtu 9000 type veth peer name v1 mtu 9000");
    let program = sockets.load(&filter(&[4789]));
    let attach = || ns.enter(|| Attachment::attach("v0", &program, NATIVE));
    let Err(AttachError::Refused {
        refusal: Refusal::Mtu { limit, .. },
        ..
    }) = attach()
    else {
        panic!("refused before")
    };
    ns.ip(&format!("link set v1 mtu {}", limit + 1));
    ns.ip(&format!("link set v0 mtu {}", limit + 1));
    assert!(attach().is_err());
    ns.ip(&format!("link set v1 mtu {limit}"));
    ns.ip(&format!("link set v0 mtu {limit}"));
    attach().unwrap();
}

#[test]
fn a_veth_with_too_few_queues_says_so() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = Netns::new();
    ns.ip("link add v0 numrxqueues 1 numtxqueues 1 type veth peer name v1 numrxqueues 4 numtxqueues 4");
    let program = sockets.load(&filter(&[4789]));
    ns.enter(|| {
        let error = Attachment::attach("v0", &program, NATIVE).unwrap_err();
        assert!(
            matches!(
                &error,
                AttachError::Refused {
                    refusal: Refusal::Queues { .. },
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("ethtool -L"), "{error}");
        let attachment = Attachment::attach("v0", &program, AttachOptions::default()).unwrap();
        assert_eq!(attachment.mode(), Mode::Generic);
    });
}

#[test]
fn an_interface_that_is_not_there_or_goes() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = Netns::new();
    let program = sockets.load(&filter(&[4789]));
    for name in [
        "no-such-if",
        "",
        "a-name-that-is-too-long-for-linux",
        "x\0y",
    ] {
        let error = ns.enter(|| Attachment::attach(name, &program, NATIVE).unwrap_err());
        assert!(
            matches!(error, AttachError::NoSuchInterface { .. }),
            "{error}"
        );
    }
    ns.ip("link add v0 type veth peer name v1");
    let attachment = ns.enter(|| Attachment::attach("v0", &program, NATIVE).unwrap());
    ns.ip("link del v0");
    assert!(!attachment.is_attached());
    let error = attachment.replace(&program).unwrap_err();
    assert!(
        matches!(&error, AttachError::Gone { interface } if interface == "v0"),
        "{error}"
    );
    attachment.detach().unwrap();
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_BPF: u32 = 39;

/// Leaves the calling thread, which ends soon, only those capabilities (capset(2)).
fn keep_only(capabilities: &[u32]) {
    let mut header = [0x2008_0522_u32, 0];
    let bits = capabilities.iter().fold(0u64, |bits, cap| bits | 1 << cap);
    let (low, high) = (bits as u32, (bits >> 32) as u32);
    // struct __user_cap_data_struct: effective, permitted, inheritable; lower and upper half.
    let data = [low, low, 0, high, high, 0];
    // SAFETY: a header and two data structs of version 3, all live; only this thread changes. Neither std
    // nor libc has a function for it.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn without_privilege_the_error_says_which() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    Netns::new().enter(|| {
        keep_only(&[]);
        for error in [
            XskMap::new(1).unwrap_err(),
            Program::load(&filter(&[4789]), &sockets.map, false).unwrap_err(),
        ] {
            assert!(matches!(error, BpfError::Privilege { .. }), "{error}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        }
    });
}

#[test]
fn cap_bpf_and_cap_net_admin_are_enough_for_ones_own() {
    let Some(sockets) = Sockets::new() else {
        return;
    };
    let ns = Netns::new();
    ns.ip("link add v0 type veth peer name v1");
    ns.enter(|| {
        keep_only(&[CAP_BPF, CAP_NET_ADMIN]);
        let program = Program::load(&filter(&[4789]), &sockets.map, false).unwrap();
        let attachment = Attachment::attach("v0", &program, NATIVE).unwrap();
        attachment.replace(&program).unwrap();
        // Whose it is cannot be told, so it stays.
        let found = occupant("v0").unwrap().unwrap();
        assert_eq!(
            (found.owner, found.name, found.link),
            (Owner::Unknown, None, None)
        );
        let want = AttachOptions {
            take_over: true,
            ..NATIVE
        };
        let error = Attachment::attach("v0", &program, want).unwrap_err();
        assert!(matches!(error, AttachError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
        attachment.detach().unwrap();
        assert_eq!(occupant("v0").unwrap(), None);
    });
}
