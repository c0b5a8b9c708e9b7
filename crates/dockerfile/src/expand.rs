//! Variables in a Dockerfile's words, as docker expands them
//! (<https://docs.docker.com/reference/dockerfile/#environment-replacement>).

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A known value.
    Known(String),
    /// Not set: expands to nothing.
    Unset,
    /// Not known from the Dockerfile and its arguments, such as a variable of the base.
    Unknown,
}

/// Why a word has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoValue {
    /// A variable whose value is not known.
    Variable(String),
    /// A form that is not supported here.
    Form(String),
}

/// The value of `word`, without quotes and escapes.
pub(super) fn expand(word: &str, escape: char, lookup: &dyn Fn(&str) -> Value) -> Result<String, NoValue> {
    let mut out = String::new();
    let mut quote: Option<char> = None;
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, quote) {
            ('\'', None) => quote = Some('\''),
            ('"', None) => quote = Some('"'),
            (c, Some(open)) if c == open => quote = None,
            (c, Some('\'')) => out.push(c),
            (c, Some(_)) if c == escape => {
                // Between double quotes only these are escaped.
                match rest.chars().next() {
                    Some(next) if ['"', '$', escape].contains(&next) => {
                        out.push(next);
                        rest = &rest[next.len_utf8()..];
                    }
                    _ => out.push(c),
                }
            }
            (c, None) if c == escape => {
                if let Some(next) = rest.chars().next() {
                    out.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
            ('$', _) => {
                let (value, after) = variable(rest, escape, lookup)?;
                out.push_str(&value);
                rest = after;
            }
            (c, _) => out.push(c),
        }
    }
    match quote {
        None => Ok(out),
        Some(_) => Err(NoValue::Form(word.to_owned())),
    }
}

/// The value of the variable after a `$`, and the text that follows.
fn variable<'w>(
    rest: &'w str,
    escape: char,
    lookup: &dyn Fn(&str) -> Value,
) -> Result<(String, &'w str), NoValue> {
    let known = |name: &str| match lookup(name) {
        Value::Known(value) => Ok(Some(value)),
        Value::Unset => Ok(None),
        Value::Unknown => Err(NoValue::Variable(name.to_owned())),
    };
    let Some(inner) = rest.strip_prefix('{') else {
        let end = name_end(rest);
        return match end {
            0 => Ok(("$".to_owned(), rest)),
            _ => Ok((known(&rest[..end])?.unwrap_or_default(), &rest[end..])),
        };
    };
    let form = || NoValue::Form(format!("${rest}"));
    let end = closing(inner).ok_or_else(form)?;
    let (body, after) = (&inner[..end], &inner[end + 1..]);
    let (name, operator) = body.split_at(name_end(body));
    if name.is_empty() {
        return Err(form());
    }
    let (with_empty, operator) = match operator.strip_prefix(':') {
        Some(operator) => (true, operator),
        None => (false, operator),
    };
    let value = known(name)?.filter(|value| !(with_empty && value.is_empty()));
    let word = |text: &str| expand(text, escape, lookup);
    let text = match operator.chars().next() {
        None if !with_empty => value.unwrap_or_default(),
        Some('-') => value.map_or_else(|| word(&operator[1..]), Ok)?,
        Some('+') => value.map_or_else(|| Ok(String::new()), |_| word(&operator[1..]))?,
        Some('?') => value.ok_or_else(form)?,
        _ => return Err(form()),
    };
    Ok((text, after))
}

/// The end of the open brace; nested braces belong to nested variables.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn name_end(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 1;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_quotes_and_escapes() {
        let lookup = |name: &str| match name {
            "A" => Value::Known("one".to_owned()),
            "EMPTY" => Value::Known(String::new()),
            "BASE_ENV" => Value::Unknown,
            _ => Value::Unset,
        };
        let value = |word: &str| expand(word, '\\', &lookup);
        for (word, expected) in [
            ("x$A/y", "xone/y"),
            ("${A}${NONE}", "one"),
            ("${NONE:-d}${EMPTY:-e}${EMPTY-f}", "de"),
            ("${NONE:-${A}2}", "one2"),
            ("${A:+yes}${NONE:+no}", "yes"),
            ("'$A'\"$A\"", "$Aone"),
            ("\\$A", "$A"),
            ("\"\\$A\\n\"", "$A\\n"),
            ("a$", "a$"),
        ] {
            assert_eq!(value(word), Ok(expected.to_owned()), "{word}");
        }
        assert_eq!(value("$BASE_ENV"), Err(NoValue::Variable("BASE_ENV".to_owned())));
        for word in ["${A#o}", "${A/o/x}", "${A", "'a", "${}", "${NONE:?why}"] {
            assert!(matches!(value(word), Err(NoValue::Form(_))), "{word}");
        }
        assert_eq!(expand("`$A\\", '`', &lookup), Ok("$A\\".to_owned()));
    }
}
