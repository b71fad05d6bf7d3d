//! What the mesh touches: the excludes and includes, and the addresses no mesh may touch.
//!
//! A [`Scope`] is plain data. The two questions (`excludes_address`, `excludes_name`) allocate nothing, take no
//! lock and make no system call: hooks ask them on every connect. A v4-mapped v6 address is its v4 twin everywhere.
//!
//! An entry that does not parse counts as absent; the others of its list hold. Rules of one kind do not restrict the
//! other: `LDMESH_INCLUDE=*.prod.svc.cluster.local` limits names and leaves addresses alone. A service that shall
//! stay out by name is also reached by its VIP, so whoever finds a destination by address asks for its name too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::control_plane::parse_port;
use super::value::Remedy;

/// Excludes and includes, as the variables say them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// What stays out; wins over `include`.
    pub exclude: Rules,
    /// When it holds rules of a kind, only what one of them matches is in.
    pub include: Rules,
}

impl Scope {
    /// Whether connections to this address stay out of the mesh.
    pub fn excludes_address(&self, ip: IpAddr, port: u16) -> bool {
        self.exclude.matches_address(ip, port)
            || (!self.include.addresses.is_empty() && !self.include.matches_address(ip, port))
    }

    /// Whether some rule is about names.
    pub const fn has_names(&self) -> bool {
        !self.exclude.names.is_empty() || !self.include.names.is_empty()
    }

    /// Whether this name stays out of the mesh. To be asked for the name as the application wrote it and for the
    /// service's full name.
    pub fn excludes_name(&self, name: &str) -> bool {
        self.exclude.matches_name(name) || (!self.include.names.is_empty() && !self.include.matches_name(name))
    }
}

/// A list of rules; an address or a name matches if one rule matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    names: Vec<NameRule>,
    addresses: Vec<AddressRule>,
}

/// A name or every name below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NameRule {
    Exact(String),
    /// `*.suffix`: the suffix with its leading dot; matches at least one more label before it.
    Below(String),
}

/// A network, a port, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRule {
    network: Option<Network>,
    port: Option<u16>,
}

/// A CIDR block. The v4 form is kept in v6 space, told apart by `v4`, so that `::/0` does not cover v4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    v4: bool,
    bits: u128,
    mask: u128,
}

impl Rules {
    /// Parses a list separated by commas or blanks; returns what did not parse beside the rules.
    pub fn parse(text: &str) -> (Rules, Vec<(String, Remedy)>) {
        let mut rules = Rules::default();
        let mut bad = Vec::new();
        for entry in text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|e| !e.is_empty()) {
            if let Err(remedy) = rules.push(entry) {
                bad.push((entry.to_owned(), remedy));
            }
        }
        (rules, bad)
    }

    /// Adds one entry.
    pub fn push(&mut self, entry: &str) -> Result<(), Remedy> {
        if let Some(rule) = AddressRule::parse(entry) {
            self.addresses.push(rule);
        } else if let Some(rule) = NameRule::parse(entry) {
            self.names.push(rule);
        } else {
            return Err(Remedy::new(
                "use a name, *.suffix, CIDR, CIDR:port, [v6 CIDR]:port or :port, separated by commas",
            ));
        }
        Ok(())
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.addresses.is_empty()
    }

    fn matches_address(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        self.addresses.iter().any(|rule| rule.matches(ip, port))
    }

    fn matches_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.names.iter().any(|rule| rule.matches(name))
    }
}

impl NameRule {
    pub(super) fn parse(entry: &str) -> Option<NameRule> {
        let below = entry.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let labels = match below {
            Some(suffix) => suffix.get(1..)?,
            None => entry.strip_suffix('.').unwrap_or(entry),
        };
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(good);
        // What is made of digits and dots only was meant as an address.
        let numeric = labels.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if numeric || labels.len() > 253 || !labels.split('.').all(label) {
            return None;
        }
        Some(match below {
            Some(suffix) => NameRule::Below(suffix.to_ascii_lowercase()),
            None => NameRule::Exact(labels.to_ascii_lowercase()),
        })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            NameRule::Exact(exact) => name.eq_ignore_ascii_case(exact),
            NameRule::Below(suffix) => name
                .len()
                .checked_sub(suffix.len())
                .filter(|start| *start > 0)
                .and_then(|start| name.as_bytes().get(start..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(suffix.as_bytes())),
        }
    }
}

impl AddressRule {
    /// Parses `CIDR`, `CIDR:port`, `[v6 CIDR]:port` or `:port`; an address without a length is that one address.
    pub fn parse(entry: &str) -> Option<AddressRule> {
        if let Some(network) = Network::parse(entry) {
            return Some(AddressRule { network: Some(network), port: None });
        }
        if let Some(inner) = entry.strip_prefix('[') {
            let (network, rest) = inner.split_once(']')?;
            let port = if rest.is_empty() { None } else { Some(parse_port(rest.strip_prefix(':')?)?) };
            return Some(AddressRule { network: Some(Network::parse(network)?), port });
        }
        let (network, port) = entry.rsplit_once(':')?;
        let port = Some(parse_port(port)?);
        let network = if network.is_empty() { None } else { Some(Network::parse(network).filter(|n| n.v4)?) };
        Some(AddressRule { network, port })
    }

    fn matches(&self, canonical: IpAddr, port: u16) -> bool {
        self.port.is_none_or(|own| own == port) && self.network.is_none_or(|network| network.contains(canonical))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => {
                let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
                (address, Some(length.parse::<u32>().ok().filter(|_| digits)?))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        // Everything as a v6 block; a v4 block lies 96 bits in.
        let length = match (address, length) {
            (_, None) => 128,
            (IpAddr::V4(_), Some(length)) if length <= 32 => length.checked_add(96)?,
            (IpAddr::V6(_), Some(length)) if length <= 128 => length,
            _ => return None,
        };
        let (_, bits) = family_and_bits(address);
        let v4 = length >= 96 && matches!(address.to_canonical(), IpAddr::V4(_));
        let mask = u128::MAX.checked_shl(128_u32.checked_sub(length)?).unwrap_or(0);
        Some(Network { v4, bits: bits & mask, mask })
    }

    fn contains(&self, canonical: IpAddr) -> bool {
        let (v4, bits) = family_and_bits(canonical);
        v4 == self.v4 && bits & self.mask == self.bits
    }
}

fn family_and_bits(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(v4) => (true, u128::from(v4.to_ipv6_mapped())),
        IpAddr::V6(v6) => (false, u128::from(v6)),
    }
}

/// Addresses that are never the mesh's, whatever a control plane says: unspecified, loopback, link-local, multicast
/// and broadcast, their v4-mapped twins included. A pod's own addresses and the control plane's are added by others.
pub fn is_never_mesh(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => is_never_mesh_v4(v4),
        IpAddr::V6(v6) => is_never_mesh_v6(v6),
    }
}

fn is_never_mesh_v4(ip: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this network" (RFC 1122): Linux connects 0.0.0.0 to the loopback.
    ip.octets().first() == Some(&0) || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast()
}

fn is_never_mesh_v6(ip: Ipv6Addr) -> bool {
    ip.is_unspecified() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast()
}

/// An address that Istio made up for a ServiceEntry that has none (240.240.0.0/16, 2001:2::/48; `DNS_AUTO_ALLOCATE`): no
/// network has it, so the kernel can take nobody there.
pub fn is_automatic(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.octets().starts_with(&[240, 240]),
        IpAddr::V6(v6) => v6.segments().starts_with(&[0x2001, 2, 0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        let (rules, bad) = Rules::parse(text);
        assert_eq!(bad, Vec::new(), "{text}");
        rules
    }

    #[track_caller]
    fn check_address(rule: &str, address: &str, port: u16, expected: bool) {
        let scope = Scope { exclude: rules(rule), include: Rules::default() };
        let ip = address.parse().unwrap();
        assert_eq!(scope.excludes_address(ip, port), expected, "{rule} on {address} port {port}");
    }

    #[track_caller]
    fn check_name(rule: &str, name: &str, expected: bool) {
        let scope = Scope { exclude: rules(rule), include: Rules::default() };
        assert_eq!(scope.excludes_name(name), expected, "{rule} on {name}");
    }

    #[test]
    fn a_block_matches_its_addresses_and_their_v4_mapped_twins() {
        check_address("10.1.0.0/16", "10.1.255.255", 80, true);
        check_address("10.1.0.0/16", "10.2.0.0", 80, false);
        check_address("10.1.2.3/16", "10.1.9.9", 80, true);
        check_address("10.1.0.0/16", "::ffff:10.1.0.1", 80, true);
        check_address("::ffff:10.1.0.0/112", "10.1.0.1", 80, true);
        check_address("0.0.0.0/0", "192.0.2.1", 1, true);
        check_address("0.0.0.0/0", "2001:db8::1", 1, false);
        check_address("::/0", "2001:db8::1", 1, true);
        check_address("::/0", "192.0.2.1", 1, false);
        check_address("2001:db8::/32", "2001:db8:1::1", 1, true);
        check_address("2001:db8::1", "2001:db8::2", 1, false);
        check_address("10.0.0.1", "10.0.0.2", 1, false);
    }

    #[test]
    fn a_port_narrows_a_block_or_stands_alone() {
        check_address("10.0.0.0/8:5432", "10.1.1.1", 5432, true);
        check_address("10.0.0.0/8:5432", "10.1.1.1", 5433, false);
        check_address("10.0.0.1:5432", "10.0.0.1", 5432, true);
        check_address(":53", "2001:db8::1", 53, true);
        check_address(":53", "10.0.0.1", 54, false);
        check_address("[2001:db8::/32]:443", "2001:db8::5", 443, true);
        check_address("[2001:db8::/32]:443", "2001:db8::5", 80, false);
        check_address("[2001:db8::1]", "2001:db8::1", 80, true);
        check_address("10.0.0.0/8:1, :2", "192.0.2.1", 2, true);
    }

    #[test]
    fn a_name_matches_whole_and_a_star_needs_a_label_more() {
        check_name("Greeter", "greeter", true);
        check_name("greeter", "GREETER.", true);
        check_name("greeter", "greeter.default", false);
        check_name("*.legacy.svc.cluster.local", "db.LEGACY.svc.cluster.local", true);
        check_name("*.legacy.svc.cluster.local", "a.db.legacy.svc.cluster.local.", true);
        check_name("*.legacy.svc.cluster.local", "legacy.svc.cluster.local", false);
        check_name("*.legacy.svc.cluster.local", "notlegacy.svc.cluster.local", false);
        check_name("*.ab", "é.ab", true);
        check_name("*.ab", "éb", false);
    }

    #[test]
    fn an_include_restricts_only_its_own_kind() {
        let names = Scope { include: rules("*.prod"), ..Scope::default() };
        assert!(names.excludes_name("a.test") && !names.excludes_name("a.prod"));
        assert!(!names.excludes_address("10.0.0.1".parse().unwrap(), 80));
        let addresses = Scope { include: rules("10.0.0.0/8"), exclude: rules("10.1.0.0/16") };
        assert!(addresses.excludes_address("192.0.2.1".parse().unwrap(), 80));
        assert!(addresses.excludes_address("10.1.0.1".parse().unwrap(), 80), "the exclude wins");
        assert!(!addresses.excludes_address("::ffff:10.2.0.1".parse().unwrap(), 80));
        assert!(!addresses.excludes_name("anything"));
    }

    #[test]
    fn an_entry_that_does_not_parse_is_named_and_the_others_hold() {
        let (rules, bad) = Rules::parse("a.b, 10.0.0.0/33,:0 , x..y,10.0.0.256,[10.0.0.1,fd00::1:x,*,a:b,:53,1.2.3.4/");
        let named: Vec<&str> = bad.iter().map(|(entry, _)| entry.as_str()).collect();
        assert_eq!(
            named,
            ["10.0.0.0/33", ":0", "x..y", "10.0.0.256", "[10.0.0.1", "fd00::1:x", "*", "a:b", "1.2.3.4/"]
        );
        assert!(rules.matches_name("a.b") && rules.matches_address("192.0.2.1".parse().unwrap(), 53));
    }

    #[test]
    fn loopback_link_local_unspecified_and_multicast_are_never_the_meshs() {
        for ip in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.1.1",
            "::ffff:0.0.0.0",
            "::ffff:239.1.1.1",
        ] {
            assert!(is_never_mesh(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["10.0.0.1", "240.240.0.1", "192.168.1.1", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(!is_never_mesh(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn istios_automatic_addresses_are_known_in_both_families() {
        for (ip, expected) in [
            ("240.240.0.1", true),
            ("240.240.255.1", true),
            ("::ffff:240.240.0.1", true),
            ("2001:2::1", true),
            ("240.241.0.1", false),
            ("2001:2:1::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_automatic(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
