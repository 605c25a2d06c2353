//! The template of an alert's message: `User {user_id} (${total})`. Pure.

/// A message template with named fields.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Field(String),
}

/// The value of a field, and how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Part of the key. Printed unchanged.
    Key(&'a str),
    /// A number as Postgres prints it. Thousands separators are added, and the digits are not changed.
    Number(&'a str),
    /// SQL NULL. Printed as `NULL`.
    Null,
}

impl Template {
    /// Parses a template. `{name}` is the output of that name. `{{` and `}}` are literal braces. All other text, `$`
    /// included, is literal.
    ///
    /// # Errors
    /// A name that is not among `names`, or an unmatched brace. The message has the position in characters, from 1.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = (1_usize..).zip(text.chars()).peekable();
        while let Some((place, c)) = chars.next() {
            match c {
                '{' | '}' if chars.next_if(|(_, next)| *next == c).is_some() => literal.push(c),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some((_, '}')) => break,
                            None | Some((_, '{')) => return Err(format!("the {{ at character {place} is not closed")),
                            Some((_, c)) => name.push(c),
                        }
                    }
                    if !names.contains(&name.as_str()) {
                        let known = names.join(", ");
                        return Err(format!("unknown field {{{name}}} at character {place}; there are: {known}"));
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Field(name));
                }
                '}' => {
                    return Err(format!("the }} at character {place} closes nothing; a brace itself is }}}}"));
                }
                _ => literal.push(c),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Fills in the fields. A field that `lookup` does not know is printed as it was written.
    pub fn render<'a>(&self, lookup: impl Fn(&str) -> Option<Field<'a>>) -> String {
        let mut message = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => message.push_str(text),
                Part::Field(name) => match lookup(name) {
                    Some(Field::Key(key)) => message.push_str(key),
                    Some(Field::Number(number)) => message.push_str(&grouped(number)),
                    Some(Field::Null) => message.push_str("NULL"),
                    None => message.push_str(&format!("{{{name}}}")),
                },
            }
        }
        message
    }
}

/// Adds thousands separators: `-1234567.8` → `-1,234,567.8`. Text that is not a plain decimal number (`NaN`,
/// `Infinity`) is returned unchanged.
fn grouped(number: &str) -> String {
    let (sign, unsigned) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut text = sign.to_owned();
    for (digit, left) in whole.chars().zip((0..whole.len()).rev()) {
        text.push(digit);
        if left > 0 && left % 3 == 0 {
            text.push(',');
        }
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Field, Template, grouped};

    #[test]
    fn fields_are_filled_in() {
        let names = ["user_id", "total", "n o"];
        let cases = [
            ("User {user_id} (${total})", "User a,b1234 ($3,441.50)"),
            ("{{{user_id}}} }}{{", "{a,b1234} }{"),
            ("{n o}: über", "NULL: über"),
            ("", ""),
        ];
        for (text, want) in cases {
            let template = Template::parse(text, &names).unwrap();
            let got = template.render(|name| match name {
                "user_id" => Some(Field::Key("a,b1234")),
                "total" => Some(Field::Number("3441.50")),
                _ => Some(Field::Null),
            });
            assert_eq!(got, want, "{text}");
        }
        assert_eq!(Template::parse("{total}", &names).unwrap().render(|_| None), "{total}");
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        let cases = [
            ("ü {totl}", "unknown field {totl} at character 3; there are: total, user_id"),
            ("{}", "unknown field {} at character 1; there are: total, user_id"),
            ("a {total", "the { at character 3 is not closed"),
            ("{total {user_id}", "the { at character 1 is not closed"),
            ("a } b", "the } at character 3 closes nothing; a brace itself is }}"),
        ];
        for (text, want) in cases {
            assert_eq!(Template::parse(text, &["total", "user_id"]).unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn numbers_get_separators_and_keep_their_digits() {
        let cases = [
            ("3441.50", "3,441.50"),
            ("-1234567.8", "-1,234,567.8"),
            ("0", "0"),
            ("100", "100"),
            ("-100", "-100"),
            ("1000", "1,000"),
            ("123456789012345678901234567890.123456", "123,456,789,012,345,678,901,234,567,890.123456"),
            ("NaN", "NaN"),
            ("-Infinity", "-Infinity"),
            ("", ""),
            ("-", "-"),
            (".5", ".5"),
            ("1e7", "1e7"),
        ];
        for (number, want) in cases {
            assert_eq!(grouped(number), want, "{number}");
        }
    }
}
