//! Parsing networks, and the messages people will see.

use ringway_packet::addr::from_ip;
use ringway_tables::Cidr;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn addr(text: &str) -> u128 {
    from_ip(text.parse().unwrap())
}

#[test]
fn good_networks_come_back_as_text() {
    for text in [
        "10.77.1.0/24",
        "0.0.0.0/0",
        "255.255.255.255/32",
        "10.0.0.2/31",
        "fd77:1::/64",
        "::/0",
        "::/96",
        "2001:db8::1/128",
        "8000::/1",
    ] {
        assert_eq!(cidr(text).to_string(), text);
        assert_eq!(
            cidr(text),
            Cidr::new(cidr(text).network(), cidr(text).prefix_len()).unwrap()
        );
    }
}

#[test]
fn messages_say_what_was_meant() {
    for (text, message) in [
        (
            "10.77.1.5/24",
            "10.77.1.5/24 has host bits set; the network is 10.77.1.0/24",
        ),
        (
            "fd77:1::5/64",
            "fd77:1::5/64 has host bits set; the network is fd77:1::/64",
        ),
        (
            "0.0.0.1/0",
            "0.0.0.1/0 has host bits set; the network is 0.0.0.0/0",
        ),
        (
            "10.77.1.0",
            "\"10.77.1.0\" is not a network: a prefix length is missing, for example 10.77.1.0/24",
        ),
        (
            "fd77::",
            "\"fd77::\" is not a network: a prefix length is missing, for example fd77::/64",
        ),
        (
            "pods",
            "\"pods\" is not a network: a prefix length is missing, for example 10.77.1.0/24",
        ),
        (
            "10.77.1/24",
            "\"10.77.1/24\" is not a network: \"10.77.1\" is not an IPv4 or IPv6 address",
        ),
        (
            "/24",
            "\"/24\" is not a network: \"\" is not an IPv4 or IPv6 address",
        ),
        (
            "10.0.0.0/",
            "\"10.0.0.0/\" is not a network: \"\" is not a prefix length",
        ),
        (
            "10.0.0.0/+8",
            "\"10.0.0.0/+8\" is not a network: \"+8\" is not a prefix length",
        ),
        (
            "10.0.0.0/8/8",
            "\"10.0.0.0/8/8\" is not a network: \"8/8\" is not a prefix length",
        ),
        (
            "10.0.0.0/256",
            "\"10.0.0.0/256\" is not a network: \"256\" is not a prefix length",
        ),
        (
            "10.0.0.0/33",
            "10.0.0.0/33 is not a network: prefix length is at most 32",
        ),
        (
            "fd77::/129",
            "fd77::/129 is not a network: prefix length is at most 128",
        ),
        (
            "::ffff:10.0.0.0/104",
            "::ffff:10.0.0.0 is an IPv4 address in IPv6 notation; write it as 10.0.0.0",
        ),
    ] {
        assert_eq!(text.parse::<Cidr>().unwrap_err().to_string(), message);
    }
}

#[test]
fn edges_of_a_network() {
    let net = cidr("10.77.1.0/24");
    assert!(!net.contains(addr("10.77.0.255")));
    assert!(net.contains(addr("10.77.1.0")));
    assert!(net.contains(addr("10.77.1.255")));
    assert!(!net.contains(addr("10.77.2.0")));
    let net = cidr("fd77:1::/64");
    assert!(!net.contains(addr("fd77:0:ffff:ffff:ffff:ffff:ffff:ffff")));
    assert!(net.contains(addr("fd77:1::")));
    assert!(net.contains(addr("fd77:1::ffff:ffff:ffff:ffff")));
    assert!(!net.contains(addr("fd77:1:0:1::")));
}

#[test]
fn families_do_not_mix() {
    assert!(cidr("0.0.0.0/0").contains(addr("255.255.255.255")));
    assert!(!cidr("0.0.0.0/0").contains(addr("::")));
    assert!(cidr("::/0").contains(addr("ffff::")));
    assert!(!cidr("::/0").contains(addr("10.0.0.1")));
    assert!(!cidr("::/0").overlaps(cidr("0.0.0.0/0")));
}

#[test]
fn overlap_is_symmetric() {
    for (a, b, expected) in [
        ("10.77.0.0/16", "10.77.1.0/24", true),
        ("10.77.1.0/24", "10.77.1.0/24", true),
        ("10.77.1.0/24", "10.77.2.0/24", false),
        ("0.0.0.0/0", "10.0.0.1/32", true),
        ("fd77::/32", "fd77:0:1::/48", true),
        ("fd77::/32", "fd78::/32", false),
    ] {
        assert_eq!(cidr(a).overlaps(cidr(b)), expected, "{a} {b}");
        assert_eq!(cidr(b).overlaps(cidr(a)), expected, "{b} {a}");
    }
}
