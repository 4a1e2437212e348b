//! What the node's stack is told of the pods.

use super::*;

#[test]
fn the_nodes_stack_knows_where_pods_are_and_forgets_them() {
    in_netns(|| {
        let (node, pods) = (Node::new(), [Pod::new(), Pod::new()]);
        let mut control = node.start(1);
        let known = |c: &mut Control| {
            let index = c.netlink.link("ringway0").unwrap().index;
            let all = c.netlink.neighbours(index).unwrap();
            let permanent = all
                .iter()
                .filter(|n| n.state == ringway_kernel::netlink::NeighbourState::Permanent);
            let pods = permanent.filter(|n| !ringway_kernel::node::is_next_hop(n.ip));
            let mut ips: Vec<String> = pods.map(|n| n.ip.to_string()).collect();
            ips.sort();
            ips
        };
        for (pod, name, ips) in [
            (&pods[0], "a", ["10.77.1.2", "fd77:1::2"]),
            (&pods[1], "b", ["10.77.1.3", "fd77:1::3"]),
        ] {
            control.attach(&request(pod, name, &ips)).unwrap();
        }
        assert_eq!(
            known(&mut control),
            ["10.77.1.2", "10.77.1.3", "fd77:1::2", "fd77:1::3"]
        );
        detach(&mut control, "a");
        assert_eq!(known(&mut control), ["10.77.1.3", "fd77:1::3"]);
        control.stop();
        // What is gone meanwhile is corrected at the start.
        pods[1].netlink().delete_link("eth0").unwrap();
        let mut control = node.start(1);
        assert_eq!(known(&mut control), [""; 0]);
        control.stop();
    });
}
