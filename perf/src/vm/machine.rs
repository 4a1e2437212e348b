//! qemu, from its start to its end.

use super::host::VmError;
use crate::lab::end_on_signals;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const QEMU: &str = "qemu-system-x86_64";

/// A virtual machine that runs. It ends when this is dropped, or a signal ends the process.
pub(super) struct Machine {
    child: Arc<Mutex<Child>>,
    /// What it writes to its second serial line; closed when it ends.
    pub(super) lines: Receiver<String>,
}

impl Machine {
    /// Boots; the console goes to the file `console`, and so does what qemu itself complains of.
    pub(super) fn boot(kernel: &Path, initrd: &Path, console: &Path) -> Result<Machine, VmError> {
        let open = |_| File::options().append(true).open(console);
        let log = File::create(console).and_then(open).map_err(VmError::Log)?;
        let mut command = Command::new(QEMU);
        command.args(arguments());
        command.arg("-kernel").arg(kernel);
        command.arg("-initrd").arg(initrd);
        command.arg("-chardev");
        command.arg(format!(
            "file,id=console,append=on,path={}",
            console.display()
        ));
        command.args(["-serial", "chardev:console", "-serial", "stdio"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().map_err(VmError::Spawn)?;
        let stdout = child.stdout.take();
        let child = Arc::new(Mutex::new(child));
        let victim = child.clone();
        end_on_signals(move || {
            eprintln!("\ninterrupted: the virtual machine is turned off");
            // Still locked, so that the main thread waits in `drop` and does not report an end
            // that was wanted.
            std::mem::forget(end(&victim));
        });
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { return };
                let text = String::from_utf8_lossy(&line).into_owned();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Ok(Machine { child, lines })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(end(&self.child));
    }
}

fn end(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
    child
}

/// Two NICs on one hub. The driver binds zero-copy rings only where it maps its buffers through the
/// DMA API: `iommu_platform`, which is of virtio 1. A panic reboots at once, which ends qemu. Warnings
/// of the kernel are to be seen: `quiet` would hide them.
///
/// virtio_net as a module maps the header that goes before each packet to a wrong address, 1 GB and some
/// MB into memory when the kernel is where it was linked to (`nokaslr`): it takes its address among the
/// modules, from -1 GB on, for one in the kernel's own image, from -2 GB on. Where no memory is, qemu has
/// one bounce buffer for all devices, and marks a device as broken when both NICs want it at once
/// ("virtio: bogus descriptor or out of resources"). So there is memory which the kernel does not use
/// (`mem`) and which is zero, as that header has to be.
fn arguments() -> Vec<String> {
    let mut words: Vec<String> = "-machine q35,accel=tcg -cpu max -smp 2 -m 1152 -nodefaults \
         -no-user-config -display none -no-reboot -append"
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    words.push("console=ttyS0 loglevel=5 panic=-1 mitigations=off nokaslr mem=512M".into());
    for number in [1, 2] {
        words.push("-netdev".into());
        words.push(format!("hubport,id=n{number},hubid=0"));
        words.push("-device".into());
        words.push(format!(
            "virtio-net-pci,netdev=n{number},mac=52:54:00:00:00:0{number},iommu_platform=on,disable-legacy=on,romfile="
        ));
    }
    words
}
