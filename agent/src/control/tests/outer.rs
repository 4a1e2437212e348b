//! Another outer address than the one in use.

use super::*;

#[test]
fn another_outer_address_is_noticed() {
    in_netns(|| {
        let node = Node::new();
        let mut control = node.start(1);
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link("eth0").unwrap().index;
        for (old, len, new) in [
            ("192.168.77.1", 24, "192.168.77.11"),
            ("fd00:77::1", 64, "fd00:77::11"),
        ] {
            let (old, new) = (old.parse().unwrap(), new.parse().unwrap());
            netlink.remove_address(index, old, len).unwrap();
            netlink.add_address(index, new, len).unwrap();
            let said = |control: &mut Control| {
                control.outer = crate::control::outer::Outer::default();
                control.heed_changes(vec![Change::Addresses]);
                control.look_around();
                control.view().status.underlay.outdated
            };
            let outdated = said(&mut control).unwrap();
            assert!(outdated.contains(&format!("{new}")), "{outdated}");
            netlink.remove_address(index, new, len).unwrap();
            netlink.add_address(index, old, len).unwrap();
            assert_eq!(said(&mut control), None);
        }
        control.stop();
    });
}
