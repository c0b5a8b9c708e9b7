//! The part of DER that is needed to read certificates' names and timestamps.

/// The supported tags.
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
/// GeneralizedTime.
pub(crate) const TIME: u8 = 0x18;
/// `[0]`: an optional field.
pub(crate) const CONTEXT_0: u8 = 0xa0;
/// `[3]` of a certificate: its extensions.
pub(crate) const CONTEXT_3: u8 = 0xa3;

/// Reads values one after another.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// One value.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) tag: u8,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the next value, if it has this tag.
    pub(crate) fn field(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let value = ahead.next().filter(|value| value.tag == tag)?;
        *self = ahead;
        Some(value.bytes)
    }

    /// A reader of the next value's content, if it is a sequence.
    pub(crate) fn sequence(&mut self) -> Option<Reader<'a>> {
        self.field(SEQUENCE).map(Reader)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Value<'a>;

    /// The next value; `None` at the end, and if the bytes are not DER.
    fn next(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            ..=0x7f => (usize::from(first), rest),
            // No value that is read here is longer than 16 MiB.
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Value { tag, bytes })
    }
}

/// A value with its header.
pub(crate) fn encoded(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
    let mut whole = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => whole.push(short),
        _ => {
            whole.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            whole.extend(digits);
        }
    }
    whole.extend(bytes);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_sequence_and_never_past_the_end() {
        let bytes = [0x30, 0x03, 0x06, 0x01, 0x2a, 0x04, 0x81, 0x01, 0xff];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.field(OCTET_STRING), None, "another tag is left where it is");
        assert_eq!(reader.sequence().unwrap().field(OID), Some(&[0x2a][..]));
        assert_eq!(reader.field(OCTET_STRING), Some(&[0xff][..]));
        assert!(reader.next().is_none());
        for end in 0..bytes.len() {
            let cut = Reader::new(&bytes[..end]);
            assert!(cut.map(|value| value.bytes.len()).sum::<usize>() <= end);
        }
        let long = [0x04, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00];
        assert!(Reader::new(&long).next().is_none());
    }
}
