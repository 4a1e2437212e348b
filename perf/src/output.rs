//! Printing that cannot fail.
//!
//! The standard macros panic when nobody reads (`ringway-perf demo | head`) or a disk is full, in the middle
//! of a run whose namespaces have to be taken down. These have their names, so that there are no others in
//! this crate; what cannot be written is lost.

use std::fmt::Arguments;
use std::io::Write;

/// As the standard one.
macro_rules! print {
    ($($text:tt)*) => { $crate::output::write(std::io::stdout(), format_args!($($text)*)) };
}

/// As the standard one.
macro_rules! println {
    () => { print!("\n") };
    ($($text:tt)*) => { print!("{}\n", format_args!($($text)*)) };
}

/// As the standard one.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::write(std::io::stderr(), format_args!("{}\n", format_args!($($text)*))) };
}

/// Writes what can be written.
pub fn write(mut to: impl Write, text: Arguments<'_>) {
    let _ = to.write_fmt(text).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use std::io;

    /// A disk that is full.
    struct Full;

    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_no_more() {
        super::write(Full, format_args!("{}\n", 1));
        let mut text = Vec::new();
        super::write(&mut text, format_args!("{} and {}\n", 1, 2));
        assert_eq!(text, b"1 and 2\n");
    }
}
