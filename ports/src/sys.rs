//! The few system calls the ports share, each wrapped once so that its safety is argued once.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// Memory of mmap(2), unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is owned like a `Box<[u8]>`; it hands out a pointer only, and whoever uses that argues
// for it. The raw pointer is what keeps the compiler from seeing that.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Private memory, zeroed, pages touched only when used.
    pub(crate) fn anonymous(len: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::map(len, flags, -1, 0)
    }

    /// `len` bytes of what `fd` has at `offset`, shared with the kernel, all pages present.
    pub(crate) fn shared(fd: BorrowedFd<'_>, len: usize, offset: i64) -> io::Result<Mapping> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(len, flags, fd.as_raw_fd(), offset)
    }

    fn map(len: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, offset) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { address, len })
    }

    /// The first byte; page-aligned.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and unmapped only here. Pages that the kernel pins for
        // a ring stay its own until it lets them go.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

/// Bytes of a page of memory.
pub(crate) fn page_size() -> usize {
    // SAFETY: takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(page).unwrap_or(4096)
}

/// The result of a call that returns a negative number and sets `errno` on failure.
fn check(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `errno` of an error of this module.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// read(2) once.
#[inline]
pub(crate) fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a live exclusive slice. std's `File` would want to own
    // the descriptor, which several queues share.
    check(unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
}

/// write(2) once.
#[inline]
pub(crate) fn write(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a live slice.
    check(unsafe { libc::write(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len()) })
}

/// writev(2) once.
///
/// # Safety
/// Every iovec must point to memory that is readable for its length during the call.
#[inline]
pub(crate) unsafe fn writev(fd: BorrowedFd<'_>, iov: &[libc::iovec]) -> io::Result<usize> {
    // SAFETY: the array is a live slice; what it points to is vouched for by the caller.
    check(unsafe { libc::writev(fd.as_raw_fd(), iov.as_ptr(), iov.len() as i32) })
}

/// A socket, closed on exec.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = check(
        unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) } as libc::ssize_t,
    )?;
    // SAFETY: the descriptor is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// setsockopt(2) with an `int`.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: an `int` has no padding and points to nothing.
    unsafe { set_option_struct(fd, level, name, &value) }
}

/// setsockopt(2) with bytes.
pub(crate) fn set_option_bytes(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> io::Result<()> {
    // SAFETY: pointer and length are those of a live slice.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    check(result as libc::ssize_t).map(drop)
}

/// getsockopt(2) of an `int`.
pub(crate) fn get_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    // SAFETY: any bytes are an `int`.
    unsafe { get_option_struct(fd, level, name) }
}

/// ioctl(2) that reads or writes a structure.
///
/// # Safety
/// `T` must be the type that `request` expects.
pub(crate) unsafe fn ioctl_ref<T>(
    fd: BorrowedFd<'_>,
    request: libc::Ioctl,
    argument: &mut T,
) -> io::Result<()> {
    // SAFETY: the argument is a live exclusive reference of the type the request expects.
    check(
        unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) }
            as libc::ssize_t,
    )
    .map(drop)
}

/// ioctl(2) that takes a number, such as `TUNSETPERSIST`.
///
/// # Safety
/// `request` must be one that takes its argument by value.
pub(crate) unsafe fn ioctl_value(
    fd: BorrowedFd<'_>,
    request: libc::Ioctl,
    value: libc::c_ulong,
) -> io::Result<()> {
    // SAFETY: the request takes a number, not a pointer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, value) } as libc::ssize_t).map(drop)
}

/// setsockopt(2) with a structure.
///
/// # Safety
/// `T` must be the type that the option expects, without padding, and what it points to must be as the
/// option demands.
pub(crate) unsafe fn set_option_struct<T>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the value is a live reference of the size passed; the rest is vouched for by the caller.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(result as libc::ssize_t).map(drop)
}

/// getsockopt(2) of a structure, which starts as all zeroes; what an older kernel does not know stays so.
///
/// # Safety
/// `T` must be the type that the option gives, valid for any bytes.
pub(crate) unsafe fn get_option_struct<T>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
) -> io::Result<T> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to a live local of that size.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check(result as libc::ssize_t)?;
    // SAFETY: zeroed, then written by the kernel; any bytes are valid, says the caller.
    Ok(unsafe { value.assume_init() })
}

/// bind(2) to an address structure.
///
/// # Safety
/// `T` must be the address structure of the socket's family.
pub(crate) unsafe fn bind<T>(fd: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    // SAFETY: the address is a live reference of the size passed.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(address).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(result as libc::ssize_t).map(drop)
}

/// sendto(2) of nothing, which makes the kernel look at an AF_XDP transmit ring.
#[inline]
pub(crate) fn wake_transmit(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address are passed.
    let result = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    };
    check(result).map(drop)
}

/// recvfrom(2) of nothing, which makes the kernel look at an AF_XDP fill ring, or poll the device.
#[inline]
pub(crate) fn wake_receive(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address are passed.
    let result = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    check(result).map(drop)
}
