//! Kernel settings by another mount than /proc/sys/net, as in a container. A program of its own: where the
//! settings are is said once for a process.

use std::fs;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use ringway_kernel::sysctl;

const KEY: &str = "ipv4/ip_forward";

#[test]
fn the_hosts_settings_beside_a_read_only_proc_are_those_of_the_threads_namespace() {
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let beside = tempfile::tempdir().unwrap();
    let folder = beside.path().to_owned();
    let container = move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none).unwrap();
        mount(Some("/proc/sys/net"), &folder, none, MsFlags::MS_BIND, none).unwrap();
        mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none).unwrap();
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, "/proc/sys", none, read_only, none).unwrap();

        let other = if sysctl::get(KEY).unwrap() == "1" {
            "0"
        } else {
            "1"
        };
        let refused = sysctl::set(KEY, other).unwrap_err().to_string();
        assert!(refused.contains("node.sysctl_root"), "{refused}");
        let nowhere = sysctl::set_root(&folder.join("ipv4")).unwrap_err();
        assert!(nowhere.is_missing(), "{nowhere}");
        sysctl::set_root(&folder).unwrap();
        assert!(sysctl::set(KEY, other).unwrap());
        assert_eq!(sysctl::get(KEY).unwrap(), other);
        // The same setting, whichever way it is looked at.
        let by_proc = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!(by_proc.trim(), other);
        // A pod's namespace has its own.
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let fresh = sysctl::get(KEY).unwrap();
            sysctl::set(KEY, if fresh == "1" { "0" } else { "1" }).unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(sysctl::get(KEY).unwrap(), other);
    };
    std::thread::spawn(container).join().unwrap();
    let after = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(after, before, "the machine's own is as it was");
}
