//! Durations as text. Pure.

/// The microseconds of a duration. The greatest value if they do not fit.
pub fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Parses a number and its unit into microseconds: `90s`, `15m`, `24h`, `7d`, `2w`.
pub fn parse(text: &str) -> Option<i64> {
    let unit = |suffix: &str, seconds: i64| Some((text.strip_suffix(suffix)?, seconds));
    let found = unit("s", 1)
        .or_else(|| unit("m", 60))
        .or_else(|| unit("h", 3_600))
        .or_else(|| unit("d", 86_400))
        .or_else(|| unit("w", 604_800));
    let (number, seconds) = found?;
    let number = i64::from(number.parse::<u32>().ok()?);
    Some(number.saturating_mul(seconds).saturating_mul(1_000_000))
}

/// Parses an ISO 8601 duration of whole days, hours, minutes and seconds into microseconds: `PT1H30M`, `P7D`.
pub fn parse_iso(text: &str) -> Option<i64> {
    let text = text.to_ascii_uppercase();
    let text = text.strip_prefix('P')?;
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    if time.map_or(date.is_empty(), str::is_empty) {
        return None;
    }
    let date = fields(date, &[('D', 86_400)])?;
    let time = fields(time.unwrap_or_default(), &[('H', 3_600), ('M', 60), ('S', 1)])?;
    Some(date.saturating_add(time).saturating_mul(1_000_000))
}

/// Parses numbers with units into seconds. The units must be in this order.
fn fields(text: &str, units: &[(char, i64)]) -> Option<i64> {
    let (mut rest, mut sum) = (text, 0_i64);
    for (unit, seconds) in units {
        if let Some((number, after)) = rest.split_once(*unit) {
            sum = sum.saturating_add(i64::from(number.parse::<u32>().ok()?).saturating_mul(*seconds));
            rest = after;
        }
    }
    rest.is_empty().then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, seconds: Option<i64>| {
            let want = seconds.map(|seconds| seconds * 1_000_000);
            assert_eq!(parse(text).or_else(|| parse_iso(text)), want, "{text}");
        };
        check("90s", Some(90));
        check("2w", Some(1_209_600));
        check("PT1H30M", Some(5_400));
        check("P7D", Some(604_800));
        check("P1DT2H3M4S", Some(93_784));
        check("pt45s", Some(45));
        check("PT0S", Some(0));
        for text in
            ["", "P", "PT", "P1DT", "1H", "P1H", "PT1D", "PT1M1H", "PT-1H", "PT1.5S", "P1Y", "P1W", "PT1HX", "T1H"]
        {
            check(text, None);
        }
    }
}
