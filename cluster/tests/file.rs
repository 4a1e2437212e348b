//! The file source on a real file system.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ringway_cluster::source::file::File;

/// What it tells, on another thread; ended by dropping the pipe's end.
struct Told {
    texts: Receiver<Result<String, ErrorKind>>,
    stop: Option<std::io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Told {
    fn of(path: &Path) -> Told {
        let mut file = File::new(path, fs::read_to_string(path).unwrap());
        let (sender, texts) = channel();
        let (reader, stop) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            while let Some(text) = file.next(reader.as_fd()) {
                sender.send(text.map_err(|e| e.kind())).unwrap();
            }
        });
        Told {
            texts,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn next(&self) -> Result<String, ErrorKind> {
        let told = self.texts.recv_timeout(Duration::from_secs(10));
        told.expect("it tells within 10 s")
    }

    fn nothing_for(&self, time: Duration) {
        let told = self.texts.recv_timeout(time);
        assert_eq!(told, Err(RecvTimeoutError::Timeout));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap();
    }
}

const MOMENT: Duration = Duration::from_millis(500);

#[test]
fn in_place_and_by_rename() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    fs::write(&path, "one").unwrap();
    let told = Told::of(&path);
    told.nothing_for(MOMENT);
    fs::write(&path, "two").unwrap();
    assert_eq!(told.next().unwrap(), "two");
    fs::write(dir.path().join("new"), "three").unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    assert_eq!(told.next().unwrap(), "three");
    // The same text, another file beside it, other times: no news.
    fs::write(&path, "three").unwrap();
    fs::write(dir.path().join("b.toml"), "x").unwrap();
    told.nothing_for(MOMENT);
    fs::rename(&path, dir.path().join("away")).unwrap();
    assert_eq!(told.next().unwrap_err(), ErrorKind::NotFound);
    told.nothing_for(MOMENT);
    fs::rename(dir.path().join("away"), &path).unwrap();
    assert_eq!(told.next().unwrap(), "three");
}

#[test]
fn half_written_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    fs::write(&path, "one").unwrap();
    let told = Told::of(&path);
    let mut writer = fs::File::create(&path).unwrap();
    writer.write_all(b"first half, ").unwrap();
    // Longer than it takes to look without being told.
    told.nothing_for(Duration::from_secs(5));
    writer.write_all(b"second half").unwrap();
    told.nothing_for(MOMENT);
    drop(writer);
    assert_eq!(told.next().unwrap(), "first half, second half");
}

#[test]
fn a_config_map_is_swapped_by_its_link() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let version = |name: &str, text: &str| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("a.toml"), text).unwrap();
    };
    version("..1", "one");
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.toml", at("a.toml")).unwrap();
    let told = Told::of(&at("a.toml"));
    for (n, text) in [(2, "two"), (3, "three"), (4, "four")] {
        version(&format!("..{n}"), text);
        symlink(format!("..{n}"), at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(told.next().unwrap(), text);
        fs::remove_dir_all(at(&format!("..{}", n - 1))).unwrap();
    }
    // The file behind the link is seen, too.
    fs::write(at("..4").join("a.toml"), "five").unwrap();
    assert_eq!(told.next().unwrap(), "five");
}

#[test]
fn a_folder_that_is_replaced_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("etc");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.toml"), "one").unwrap();
    let told = Told::of(&folder.join("a.toml"));
    fs::rename(&folder, dir.path().join("old")).unwrap();
    assert_eq!(told.next().unwrap_err(), ErrorKind::NotFound);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.toml"), "two").unwrap();
    assert_eq!(told.next().unwrap(), "two");
    fs::write(folder.join("a.toml"), "three").unwrap();
    assert_eq!(told.next().unwrap(), "three");
}
