//! Reads the members of a JSON request, with AWS's errors.

use serde_json::Value;

use crate::fault::Fault;

/// The members of one request of a JSON service.
pub(crate) struct Input(pub(crate) Value);

impl Input {
    pub(crate) fn text(&self, member: &str) -> Result<&str, Fault> {
        self.opt(member).ok_or_else(|| missing(member))
    }

    pub(crate) fn opt(&self, member: &str) -> Option<&str> {
        self.0.get(member).and_then(Value::as_str)
    }

    pub(crate) fn number(&self, member: &str) -> Option<u64> {
        self.0.get(member).and_then(Value::as_u64)
    }

    pub(crate) fn value(&self, member: &str) -> Option<&Value> {
        self.0.get(member).filter(|value| !value.is_null())
    }

    pub(crate) fn list(&self, member: &str) -> &[Value] {
        self.0.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn texts(&self, member: &str) -> Vec<&str> {
        self.list(member).iter().filter_map(Value::as_str).collect()
    }

    /// One page of `all`: `nextToken` is the position after the last item shown.
    pub(crate) fn page<'a, T>(&self, all: &'a [T], most: usize) -> Result<(&'a [T], Option<String>), Fault> {
        let start = match self.opt("nextToken") {
            None | Some("") => 0,
            Some(token) => decode_token(token).filter(|start| *start <= all.len()).ok_or_else(|| {
                Fault::invalid_parameter(
                    "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'",
                )
            })?,
        };
        let size = match self.number("maxResults") {
            None => most.min(100),
            Some(wanted) => match usize::try_from(wanted) {
                Ok(wanted) if (1..=most).contains(&wanted) => wanted,
                _ => {
                    return Err(Fault::invalid_parameter(format!(
                        "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value between 1 and {most}'"
                    )));
                }
            },
        };
        let end = all.len().min(start + size);
        let next = (end < all.len()).then(|| encode_token(end));
        Ok((&all[start..end], next))
    }
}

fn missing(member: &str) -> Fault {
    Fault::invalid_parameter(format!(
        "Invalid parameter at '{member}' failed to satisfy constraint: 'Member must not be null'"
    ))
}

fn encode_token(position: usize) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("local-aws:{position}"))
}

fn decode_token(token: &str) -> Option<usize> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(token).ok()?;
    std::str::from_utf8(&bytes).ok()?.strip_prefix("local-aws:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_everything_once() {
        let all: Vec<u32> = (0..25).collect();
        let (mut seen, mut token) = (Vec::new(), None::<String>);
        loop {
            let input = Input(serde_json::json!({"maxResults": 10, "nextToken": token}));
            let (page, next) = input.page(&all, 1000).unwrap();
            seen.extend_from_slice(page);
            match next {
                Some(next) => token = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, all);
        assert!(Input(serde_json::json!({"nextToken": "nonsense"})).page(&all, 1000).is_err());
        assert!(Input(serde_json::json!({"maxResults": 0})).page(&all, 1000).is_err());
    }
}
