//! Where captured packets go.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ringway_ports::pcap::ng::{self, Block};

use super::CaptureError;
use super::lines::Lines;

/// How files follow each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ring {
    /// Bytes of each; none: one file.
    pub(super) size: Option<u64>,
    /// How many are kept; none: all.
    pub(super) files: Option<u32>,
}

/// One of three.
pub(super) enum Sink {
    Lines(Lines, BufWriter<io::Stdout>),
    Stdout(BufWriter<io::Stdout>),
    Files(Files),
}

/// A file, or several in turn.
pub(super) struct Files {
    path: PathBuf,
    ring: Ring,
    file: BufWriter<File>,
    written: u64,
    number: u64,
    /// What each file begins with.
    headers: Vec<u8>,
}

impl Sink {
    pub(super) fn lines() -> Sink {
        Sink::Lines(Lines::default(), BufWriter::new(io::stdout()))
    }

    pub(super) fn stdout() -> Sink {
        Sink::Stdout(BufWriter::with_capacity(1 << 18, io::stdout()))
    }

    pub(super) fn files(path: &Path, ring: Ring) -> Result<Sink, CaptureError> {
        let first = numbered(path, ring, 0);
        let file = create(&first)?;
        Ok(Sink::Files(Files {
            path: path.to_owned(),
            ring,
            file,
            written: 0,
            number: 0,
            headers: Vec::new(),
        }))
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Sink::Files(_))
    }

    /// Takes a block.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<(), CaptureError> {
        match self {
            Sink::Lines(lines, out) => match lines.line(block) {
                Some(line) => stdout(out.write_all(line.as_bytes())),
                None => Ok(()),
            },
            Sink::Stdout(out) => stdout(out.write_all(block)),
            Sink::Files(files) => files.block(block),
        }
    }

    /// Hands on what was taken; false if nobody reads any more.
    pub(super) fn flush(&mut self) -> Result<bool, CaptureError> {
        let flushed = match self {
            Sink::Lines(_, out) | Sink::Stdout(out) => out.flush(),
            Sink::Files(_) => return Ok(true),
        };
        match flushed {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            flushed => stdout(flushed).map(|()| true),
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), CaptureError> {
        match self {
            Sink::Files(files) => files.flush(),
            _ => self.flush().map(|_| ()),
        }
    }
}

/// A reader that has gone is no failure: the next flush says so.
fn stdout(written: io::Result<()>) -> Result<(), CaptureError> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(failed(Path::new("stdout"))(e)),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CaptureError + '_ {
    move |source| CaptureError::Write {
        path: path.to_owned(),
        source,
    }
}

fn create(path: &Path) -> Result<BufWriter<File>, CaptureError> {
    let file = File::create(path).map_err(failed(path))?;
    Ok(BufWriter::with_capacity(1 << 18, file))
}

/// `x.pcapng` becomes `x-0.pcapng` where there are several.
fn numbered(path: &Path, ring: Ring, number: u64) -> PathBuf {
    if ring.size.is_none() {
        return path.to_owned();
    }
    let number = ring.files.map_or(number, |files| number % u64::from(files));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}-{number}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{number}"),
    };
    path.with_file_name(name)
}

impl Files {
    fn block(&mut self, block: &[u8]) -> Result<(), CaptureError> {
        let kind = ng::understand(block);
        if kind == Block::Header {
            self.headers.extend_from_slice(block);
        }
        let is_packet = matches!(kind, Block::Packet { .. });
        let full = self.ring.size.is_some_and(|size| self.written >= size);
        if is_packet && full {
            self.flush()?;
            self.number += 1;
            self.file = create(&numbered(&self.path, self.ring, self.number))?;
            self.written = 0;
            let headers = std::mem::take(&mut self.headers);
            self.write(&headers)?;
            self.headers = headers;
        }
        self.write(block)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(failed(&self.path))
    }

    fn flush(&mut self) -> Result<(), CaptureError> {
        self.file.flush().map_err(failed(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let packet = ng::Packet {
            interface: 0,
            time: 1,
            original_len: bytes.len() as u32,
            bytes,
            direction: ng::Direction::In,
            lost: 0,
            comment: "",
        };
        ng::packet(&mut out, &packet);
        out
    }

    #[test]
    fn each_file_of_a_ring_is_whole_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcapng");
        let ring = Ring {
            size: Some(200),
            files: Some(2),
        };
        let mut sink = Sink::files(&path, ring).unwrap();
        let (mut section, mut interface) = (Vec::new(), Vec::new());
        ng::section(&mut section, "test");
        let described = ng::Interface {
            name: "a",
            ..ng::Interface::default()
        };
        ng::interface(&mut interface, &described, 100);
        sink.block(&section).unwrap();
        sink.block(&interface).unwrap();
        for n in 0..9 {
            sink.block(&packet(&[n; 60])).unwrap();
        }
        sink.finish().unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["x-0.pcapng", "x-1.pcapng"]);
        for name in names {
            let file = std::fs::read(dir.path().join(&name)).unwrap();
            assert!(
                file.starts_with(&[&section[..], &interface].concat()),
                "{name}"
            );
            let (mut at, mut packets) = (0, 0);
            while let Some(len) = ng::block_len(&file[at..]).unwrap() {
                packets += usize::from(matches!(
                    ng::understand(&file[at..at + len]),
                    Block::Packet { .. }
                ));
                at += len;
            }
            assert_eq!(at, file.len(), "{name}");
            assert!((1..=3).contains(&packets), "{name}: {packets}");
        }
    }
}
