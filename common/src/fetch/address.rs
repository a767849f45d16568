//! Which addresses belong to the public internet, according to IANA's IPv4 and IPv6 special-purpose registries.
//!
//! `IpAddr::is_global` of the standard library is not stable yet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

#[expect(clippy::match_same_arms, reason = "one arm for each kind of address")]
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    let special = match (a, b, c) {
        // "This network", private use (10/8), loopback.
        (0 | 10 | 127, _, _) => true,
        // Carrier-grade NAT, 100.64/10; some clouds serve their metadata there.
        (100, 64..=127, _) => true,
        // Link-local; most clouds serve their metadata there.
        (169, 254, _) => true,
        // Private use, 172.16/12 and 192.168/16.
        (172, 16..=31, _) | (192, 168, _) => true,
        // Protocol assignments, documentation, 6to4 relays, AS112.
        (192, 0, 0 | 2) | (192, 88, 99) | (192, 31, 196) | (192, 52, 193) | (192, 175, 48) => true,
        // Benchmarks, documentation.
        (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => true,
        // Multicast, reserved and broadcast.
        (224..=255, _, _) => true,
        _ => false,
    };
    // Azure's internal services, outside of the reserved ranges.
    !special && [a, b, c, d] != [168, 63, 129, 16]
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // An embedded IPv4 address decides.
    if let Some(inner) = embedded_v4(address) {
        return is_public_v4(inner);
    }
    match address.segments() {
        // Teredo and other protocol assignments, documentation (two ranges). 6to4 embeds an IPv4 address, see above.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // 2000::/3 is the public internet; the rest is loopback, local, multicast or unassigned.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[expect(clippy::match_same_arms, reason = "one arm for each kind of address")]
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // ::a.b.c.d (deprecated) and ::ffff:a.b.c.d; `::` and `::1` become 0.0.0.0 and 0.0.0.1, which are not public.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => v4(high, low),
        // ::ffff:0:a.b.c.d (SIIT).
        [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        // NAT64: 64:ff9b::/96. The local-use prefix 64:ff9b:1::/48 is not in 2000::/3.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // 6to4: 2002:a.b.c.d::/48.
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_reserved_addresses_are_not_public() {
        let private = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 \
            169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 \
            198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 \
            168.63.129.16 \
            :: ::1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:169.254.169.254 ::127.0.0.1 ::ffff:0:10.0.0.1 \
            64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:a00:1:: \
            3fff::1 fc00::1 fd12:3456::1 fe80::1 fec0::1 ff02::1 4000::1";
        for address in private.split_whitespace() {
            assert!(!is_public(address.parse().unwrap()), "{address} is public");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        let public = "1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.169.0.1 \
            198.17.0.1 223.255.255.255 2606:4700:4700::1111 2a00:1450:4001::1 ::ffff:8.8.8.8 64:ff9b::808:808";
        for address in public.split_whitespace() {
            assert!(is_public(address.parse().unwrap()), "{address} is not public");
        }
    }
}
