//! What an address is, before anything connects to it: a pure table, so that it can be read and tested as one.
//!
//! An address can be written in several ways (mapped into IPv6, translated by NAT64 or 6to4); each is unwrapped to what it really
//! reaches. Whatever is not known to be a public unicast address is refused or needs a grant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use host_domain::plugin::AddressRange;

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressClass {
    /// The Internet: open to every granted target.
    Public,
    /// A special range, open only when the grant lists it.
    Special(AddressRange),
    /// Nothing that a request may ever be sent to: unspecified, multicast, reserved, documentation.
    Never,
}

impl AddressClass {
    /// In words, for the refusal.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Special(AddressRange::Loopback) => "loopback",
            Self::Special(AddressRange::Private) => "private",
            Self::Special(AddressRange::LinkLocal) => "link-local or metadata",
            Self::Never => "reserved",
        }
    }

    /// Whether a grant with these ranges opens it.
    pub(crate) fn is_open_to(self, ranges: &[AddressRange]) -> bool {
        match self {
            Self::Public => true,
            Self::Special(range) => ranges.contains(&range),
            Self::Never => false,
        }
    }
}

/// What an address really reaches.
pub(crate) fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    use AddressClass::{Never, Public, Special};
    match address.octets() {
        [127, ..] => Special(AddressRange::Loopback),
        // Metadata services outside 169.254/16: Alibaba's in the shared range, Azure's on a public address.
        [169, 254, ..] | [100, 100, 100, 200] | [168, 63, 129, 16] => {
            Special(AddressRange::LinkLocal)
        }
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [198, 18 | 19, ..] => Special(AddressRange::Private),
        [0 | 224..=255, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Never,
        _ => Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    use AddressClass::{Never, Public, Special};
    if address == Ipv6Addr::LOCALHOST {
        return Special(AddressRange::Loopback);
    }
    if let Some(inner) = embedded_v4(address) {
        return classify_v4(inner);
    }
    match address.segments() {
        // Amazon's metadata service lies among the private addresses.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] | [0xfe80..=0xfebf, ..] => {
            Special(AddressRange::LinkLocal)
        }
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Special(AddressRange::Private),
        // Teredo, benchmarking, ORCHID and documentation.
        [0x2001, 0 | 2 | 0x10..=0x2f | 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Never,
        // Only 2000::/3 is handed out as global unicast.
        [0x2000..=0x3fff, ..] => Public,
        _ => Never,
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 (well-known and local prefix) or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use host_domain::plugin::AddressRange::{LinkLocal, Loopback, Private};

    use super::AddressClass::{Never, Public, Special};
    use super::{AddressClass, classify};

    #[test]
    fn every_way_of_writing_an_address_leads_to_its_class() {
        let table: &[(&str, AddressClass)] = &[
            ("1.1.1.1", Public),
            ("8.8.8.8", Public),
            ("172.15.255.255", Public),
            ("172.32.0.1", Public),
            ("100.63.255.255", Public),
            ("100.128.0.1", Public),
            ("2606:4700:4700::1111", Public),
            ("::ffff:1.1.1.1", Public),
            ("64:ff9b::808:808", Public),
            ("127.0.0.1", Special(Loopback)),
            ("127.255.255.254", Special(Loopback)),
            ("::1", Special(Loopback)),
            ("::ffff:127.0.0.1", Special(Loopback)),
            ("::127.0.0.1", Special(Loopback)),
            ("::ffff:0:127.0.0.1", Special(Loopback)),
            ("64:ff9b::7f00:1", Special(Loopback)),
            ("64:ff9b:1::7f00:1", Special(Loopback)),
            ("2002:7f00:1::", Special(Loopback)),
            ("10.0.0.1", Special(Private)),
            ("172.16.0.1", Special(Private)),
            ("172.31.255.255", Special(Private)),
            ("192.168.1.1", Special(Private)),
            ("100.64.0.1", Special(Private)),
            ("198.18.0.1", Special(Private)),
            ("fc00::1", Special(Private)),
            ("fdff:ffff::1", Special(Private)),
            ("fec0::1", Special(Private)),
            ("::ffff:10.0.0.1", Special(Private)),
            ("169.254.169.254", Special(LinkLocal)),
            ("169.254.170.2", Special(LinkLocal)),
            ("100.100.100.200", Special(LinkLocal)),
            ("168.63.129.16", Special(LinkLocal)),
            ("::ffff:169.254.169.254", Special(LinkLocal)),
            ("64:ff9b::a9fe:a9fe", Special(LinkLocal)),
            ("2002:a9fe:a9fe::1", Special(LinkLocal)),
            ("fd00:ec2::254", Special(LinkLocal)),
            ("fe80::1", Special(LinkLocal)),
            ("0.0.0.0", Never),
            ("0.1.2.3", Never),
            ("::", Never),
            ("224.0.0.1", Never),
            ("239.255.255.255", Never),
            ("240.0.0.1", Never),
            ("255.255.255.255", Never),
            ("192.0.0.192", Never),
            ("192.0.2.1", Never),
            ("198.51.100.1", Never),
            ("203.0.113.1", Never),
            ("ff02::1", Never),
            ("2001:db8::1", Never),
            ("2001::1", Never),
            ("100::1", Never),
        ];
        for (text, expected) in table {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(classify(address), *expected, "{text}");
        }
    }

    #[test]
    fn a_grant_opens_the_ranges_it_lists_and_never_the_reserved_ones() {
        assert!(Public.is_open_to(&[]));
        assert!(!Special(Loopback).is_open_to(&[Private, LinkLocal]));
        assert!(Special(Private).is_open_to(&[Private]));
        assert!(!Never.is_open_to(&[Loopback, Private, LinkLocal]));
    }
}
