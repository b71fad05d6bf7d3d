//! Scalars that are checked while they are read, so that a bad one is reported with its line.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads `null` as the default: `kubectl` prints `endpoints: null` for an empty list.
pub(super) fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads an optional duration in Go's notation.
pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    parse_duration(&text)
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("`{text}` is not a duration such as 500ms, 10s or 1m30s")))
}

/// `1h2m3.5s`, `500ms`; units h, m, s, ms, us, ns.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_len)?;
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = next;
    }
    // Protobuf's Duration ends at 10,000 years.
    if text.is_empty() || !(0.0..=315_576_000_000.0).contains(&seconds) {
        return None;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// `spec.clusterIP` of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClusterIp {
    /// `None`: headless.
    None,
    /// Empty: not allocated (an ExternalName, or a file written by hand).
    Unset,
    /// A virtual address.
    Ip(IpAddr),
}

impl<'de> Deserialize<'de> for ClusterIp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "None" => Ok(Self::None),
            "" => Ok(Self::Unset),
            ip => ip
                .parse()
                .map(Self::Ip)
                .map_err(|_| D::Error::custom(format!("`{ip}` is neither an IP address nor None"))),
        }
    }
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortRef {
    Number(NonZeroU16),
    Name(String),
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NumberOrName;
        impl Visitor<'_> for NumberOrName {
            type Value = PortRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number (1 to 65535) or a port name")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<PortRef, E> {
                u16::try_from(number)
                    .ok()
                    .and_then(NonZeroU16::new)
                    .map(PortRef::Number)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<PortRef, E> {
                Ok(PortRef::Name(name.to_owned()))
            }
        }
        from.deserialize_any(NumberOrName)
    }
}

/// An IP address or a prefix of addresses (`10.0.0.0/8`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub ip: IpAddr,
    /// `None` for a single address.
    pub prefix: Option<u8>,
}

impl FromStr for Address {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let Some((ip, prefix)) = text.split_once('/') else {
            return Ok(Self { ip: text.parse().map_err(|_| ())?, prefix: None });
        };
        let ip: IpAddr = ip.parse().map_err(|_| ())?;
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = prefix.parse().map_err(|_| ())?;
        match prefix {
            n if n == bits => Ok(Self { ip, prefix: None }),
            n if n < bits => Ok(Self { ip, prefix: Some(n) }),
            _ => Err(()),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|()| {
            D::Error::custom(format!("`{text}` is neither an IP address nor a prefix such as 10.0.0.0/8"))
        })
    }
}

/// Bytes written in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base64(pub Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let text: String = text.split_whitespace().collect();
        base64::engine::general_purpose::STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_gos_notation() {
        assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        for bad in ["", "10", "s", "-1s", "1x", "99999999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_prefix_of_full_length_is_a_single_address() {
        assert_eq!("10.0.0.1/32".parse::<Address>(), "10.0.0.1".parse::<Address>());
        assert!("10.0.0.1/33".parse::<Address>().is_err());
        assert_eq!("2001:db8::/32".parse::<Address>().map(|a| a.prefix), Ok(Some(32)));
    }
}
