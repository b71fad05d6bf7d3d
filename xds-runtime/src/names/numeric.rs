//! Digits of an address in place of a name.

/// Whether libc takes this text as an address and never as a name: inet_aton(3)'s forms (one to four parts, each
/// decimal, octal or hexadecimal, the last one filling the bytes that are left), and anything with a colon, which is
/// a v6 address or an error.
pub fn is_numeric_host(name: &str) -> bool {
    name.contains(':') || (name.starts_with(|first: char| first.is_ascii_digit()) && is_inet_aton(name))
}

fn is_inet_aton(name: &str) -> bool {
    let mut parts = 0_u32;
    let mut pieces = name.split('.').peekable();
    while let Some(piece) = pieces.next() {
        parts = parts.saturating_add(1);
        let Some(value) = number(piece) else {
            return false;
        };
        let last = pieces.peek().is_none();
        // The last of n parts has 8 * (5 - n) bits.
        let bits = if last { 40_u32.saturating_sub(parts.saturating_mul(8)) } else { 8 };
        if parts > 4 || value.checked_shr(bits) != Some(0) {
            return false;
        }
    }
    true
}

/// As strtoul(3) with base 0, all of the text, beginning with a digit.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        [b'0', _, ..] => (text.get(1..)?, 8),
        _ => (text, 10),
    };
    // from_str_radix takes a sign.
    let plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_inet_aton_takes_is_numeric_and_nothing_else() {
        for name in [
            "1",
            "1.2",
            "127.1",
            "10.0.0.1",
            "0x7f.1",
            "0x7f000001",
            "010.8.8.8",
            "4294967295",
            "1.2.65535",
            "1.16777215",
            "0",
            "::1",
            "fe80::1%eth0",
            "0.0.0.0",
        ] {
            assert!(is_numeric_host(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a",
            "1a",
            "1.2.3.4.5",
            "1.2.3.256",
            "256.1",
            "4294967296",
            "1.2.65536",
            "08",
            "0x",
            "1..2",
            "1.2.3.4.",
            "0xg",
            "-1",
            "+1",
            "1.16777216",
            "99999999999999999999",
        ] {
            assert!(!is_numeric_host(name), "{name}");
        }
    }
}
