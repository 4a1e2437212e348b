//! A program at an interface.
//!
//! Attaching, in order: who is there? (a foreign program ends it; one of ours is waited for, or evicted if
//! so wanted) → native → generic. What the kernel calls busy is tried again for [`PATIENCE`]: links and
//! sockets of a process that has just died are released a little later.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::netlink::{self, Interface, Which};
use super::occupant::{self, Occupant, Owner};
use super::{AttachError, AttachMode, AttachOptions, BpfError, Mode, Program, Refusal};
use crate::bpf;

/// How long a busy interface is tried again.
const PATIENCE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A program attached to an interface, until this is dropped and no descriptor of it is left elsewhere.
#[derive(Debug)]
pub struct Attachment {
    link: OwnedFd,
    interface: String,
    mode: Mode,
    fell_back: Option<Refusal>,
}

impl Attachment {
    /// Attaches `program` to an interface of the calling thread's network namespace. Waits up to a second
    /// for one of ours, or a busy driver, to go.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(
        interface: &str,
        program: &Program,
        want: AttachOptions,
    ) -> Result<Attachment, AttachError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let last = Instant::now() >= deadline;
            let found = occupant::find_interface(interface)?;
            let error = match admit(&found, want)? {
                Some(occupant) => occupied(interface, occupant),
                None => match attach_once(&found, program, want.mode, last) {
                    Err(error) if error.is_busy() => error,
                    result => return result,
                },
            };
            if last {
                return Err(error);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs on a link that was attached before, by this process or another, to an interface of the calling
    /// thread's network namespace.
    ///
    /// # Errors
    /// [`AttachError::NotALink`], also if it was detached meanwhile.
    pub fn adopt(link: OwnedFd) -> Result<Attachment, AttachError> {
        let Ok(Some(info)) = bpf::link_info(link.as_fd()) else {
            return Err(AttachError::NotALink);
        };
        let interface =
            netlink::interface(Which::Index(info.ifindex)).map_err(|_| AttachError::NotALink)?;
        let mut programs = interface.programs.iter();
        let mode = programs
            .find_map(|(mode, program)| (*program == info.program).then_some(*mode))
            .ok_or(AttachError::NotALink)?;
        Ok(Attachment {
            link,
            interface: interface.name,
            mode,
            fell_back: None,
        })
    }

    /// Puts `program` in the place of the one attached. No frame sees neither, none sees both.
    ///
    /// # Errors
    /// [`AttachError::Gone`], or [`AttachError::Refused`] if the interface has changed or the program is
    /// for single buffers and the one before was not; then the one before stays.
    pub fn replace(&self, program: &Program) -> Result<(), AttachError> {
        let Err(error) = bpf::link_update(self.link.as_fd(), program.as_fd()) else {
            return Ok(());
        };
        match error.raw_os_error() {
            Some(libc::ENOLINK | libc::ENODEV) => Err(AttachError::Gone {
                interface: self.interface.clone(),
            }),
            Some(libc::EPERM) => Err(AttachError::Bpf(BpfError::call("BPF_LINK_UPDATE", error))),
            _ => {
                let found = occupant::find_interface(&self.interface);
                let mtu = found.map_or(0, |interface| interface.mtu);
                Err(AttachError::Refused {
                    interface: self.interface.clone(),
                    refusal: Refusal::new(self.mode, mtu, program.frags(), error),
                })
            }
        }
    }

    /// Detaches now, whoever else holds a descriptor of the link. Dropping only closes this one.
    ///
    /// # Errors
    /// What the kernel says; that it was detached before is none.
    pub fn detach(self) -> Result<(), AttachError> {
        match bpf::link_detach(self.link.as_fd()) {
            Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => {
                Err(AttachError::Bpf(BpfError::call("BPF_LINK_DETACH", error)))
            }
            _ => Ok(()),
        }
    }

    /// Whether the program is still there: an interface that is deleted, or an agent that takes over, ends
    /// an attachment from outside.
    pub fn is_attached(&self) -> bool {
        matches!(bpf::link_info(self.link.as_fd()), Ok(Some(link)) if link.ifindex != 0)
    }

    /// Name of the interface when it was attached or adopted.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// How it is attached.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Why it is not native, if either mode would do.
    pub fn fell_back(&self) -> Option<&Refusal> {
        self.fell_back.as_ref()
    }

    /// Gives the link away, still attached, for another structure or process to [adopt](Self::adopt).
    pub fn into_fd(self) -> OwnedFd {
        self.link
    }
}

impl AsFd for Attachment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// Who is in the way: nobody (any more), somebody who may go, or a foreign program, which is an error.
fn admit(interface: &Interface, want: AttachOptions) -> Result<Option<Occupant>, AttachError> {
    let Some(occupant) = occupant::find(interface).map_err(AttachError::Bpf)? else {
        return Ok(None);
    };
    match occupant.owner {
        Owner::Foreign => Err(occupied(&interface.name, occupant)),
        Owner::Ours if want.take_over => {
            let evicted = occupant::evict(interface, &occupant).map_err(AttachError::Bpf)?;
            Ok((!evicted).then_some(occupant))
        }
        Owner::Ours | Owner::Unknown => Ok(Some(occupant)),
    }
}

fn occupied(interface: &str, occupant: Occupant) -> AttachError {
    let interface = interface.to_owned();
    match occupant.owner {
        Owner::Ours => AttachError::Ours {
            interface,
            occupant,
        },
        Owner::Foreign | Owner::Unknown => AttachError::Foreign {
            interface,
            occupant,
        },
    }
}

/// One attempt, the last of them or not.
fn attach_once(
    interface: &Interface,
    program: &Program,
    want: AttachMode,
    last: bool,
) -> Result<Attachment, AttachError> {
    let refused = |refusal| AttachError::Refused {
        interface: interface.name.clone(),
        refusal,
    };
    let create = |mode| create(interface, program, mode);
    match want {
        AttachMode::Native => create(Mode::Native)?.map_err(refused),
        AttachMode::Generic => create(Mode::Generic)?.map_err(refused),
        AttachMode::Either => {
            let native = match create(Mode::Native)? {
                Ok(attachment) => return Ok(attachment),
                // In a moment native may work, so generic is not taken yet.
                Err(busy @ Refusal::Busy { .. }) if !last => return Err(refused(busy)),
                Err(refusal) => refusal,
            };
            match create(Mode::Generic)? {
                Ok(mut attachment) => {
                    attachment.fell_back = Some(native);
                    Ok(attachment)
                }
                Err(generic) => Err(AttachError::BothRefused {
                    interface: interface.name.clone(),
                    native,
                    generic,
                }),
            }
        }
    }
}

/// A link in one mode; the inner error is one that another mode may not have.
fn create(
    interface: &Interface,
    program: &Program,
    mode: Mode,
) -> Result<Result<Attachment, Refusal>, AttachError> {
    match bpf::link_create_xdp(program.as_fd(), interface.index, mode.flags()) {
        Ok(link) => Ok(Ok(Attachment {
            link,
            interface: interface.name.clone(),
            mode,
            fell_back: None,
        })),
        Err(source) => match source.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS) => {
                Err(AttachError::Bpf(BpfError::call("BPF_LINK_CREATE", source)))
            }
            Some(libc::ENODEV) => Err(AttachError::NoSuchInterface {
                interface: interface.name.clone(),
                source,
            }),
            _ => Ok(Err(Refusal::new(
                mode,
                interface.mtu,
                program.frags(),
                source,
            ))),
        },
    }
}
