//! The texts of `inet`. Pure.

use core::net::IpAddr;

/// Formats an address as Postgres shows it (`inet_out`): without a netmask that spans all of the address. `None` for a
/// text that is not a complete address, and for an IPv6 address whose first 96 bits are zero, which Postgres shows in a
/// form of its own.
#[must_use]
pub fn canonical(text: &str) -> Option<String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => {
            (address, Some(bits.parse::<u8>().ok().filter(|_| bits.bytes().all(|b| b.is_ascii_digit()))?))
        }
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let all = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(address)
            if address.segments().iter().take(6).all(|part| *part == 0)
                && !address.is_loopback()
                && !address.is_unspecified() =>
        {
            return None;
        }
        IpAddr::V6(_) => 128,
    };
    match bits {
        Some(bits) if bits > all => None,
        Some(bits) if bits < all => Some(format!("{address}/{bits}")),
        _ => Some(address.to_string()),
    }
}

/// Whether a text is an address in Postgres's format. The form of an IPv6 address whose first 96 bits are zero is not
/// checked.
#[must_use]
pub fn is_shown(text: &str) -> bool {
    let is_address = |text: &str| text.split('/').next().is_some_and(|address| address.parse::<IpAddr>().is_ok());
    canonical(text).map_or_else(|| text.starts_with("::") && is_address(text), |canonical| canonical == text)
}

/// Removes the netmask from a text of `inet::text`, which always has one, if it spans all of the address.
#[must_use]
pub fn without_full_mask(text: &str) -> &str {
    let full = if text.contains(':') { "/128" } else { "/32" };
    text.strip_suffix(full).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_postgres_shows_them() {
        let check = |text: &str, want: Option<&str>| assert_eq!(canonical(text).as_deref(), want, "{text}");
        check("10.0.0.1", Some("10.0.0.1"));
        check("10.0.0.1/32", Some("10.0.0.1"));
        check("10.0.0.1/8", Some("10.0.0.1/8"));
        check("10.0.0.1/33", None);
        check("10.0.0.1/+8", None);
        check("10.0.0", None);
        check("2001:0DB8::0001/128", Some("2001:db8::1"));
        check("2001:db8::/32", Some("2001:db8::/32"));
        check("::1", Some("::1"));
        check("::", Some("::"));
        check("::1.2.3.4", None);
        check("::ffff:1.2.3.4", Some("::ffff:1.2.3.4"));
        assert!(is_shown("::1.2.3.4") && is_shown("10.0.0.1/8") && is_shown("::1"));
        assert!(!is_shown("a.b") && !is_shown("::x") && !is_shown("10.0.0.1/32") && !is_shown("2001:DB8::1"));
        assert_eq!(without_full_mask("10.0.0.1/32"), "10.0.0.1");
        assert_eq!(without_full_mask("2001:db8::/32"), "2001:db8::/32");
    }
}
