//! Names of JSON fields that two readers take differently.
//!
//! Go's reader, and with it registries and container engines, reads a field name in any case, and uses the last of several
//! (<https://pkg.go.dev/encoding/json#Unmarshal>). We accept one spelling. What both would not read alike is refused: it could
//! be copied as one image and run as another.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::digest::excerpt;

/// The fields of an object that are read, with those of the objects in them.
#[derive(Debug)]
pub struct Fields(pub &'static [(&'static str, Option<&'static Fields>)]);

/// Manifests and indexes.
pub const MANIFEST: Fields = Fields(&[
    ("schemaVersion", None),
    ("mediaType", None),
    ("artifactType", None),
    ("config", Some(&DESCRIPTOR)),
    ("layers", Some(&DESCRIPTOR)),
    ("blobs", Some(&DESCRIPTOR)),
    ("manifests", Some(&DESCRIPTOR)),
    ("subject", Some(&DESCRIPTOR)),
    ("annotations", None),
]);

const DESCRIPTOR: Fields = Fields(&[
    ("mediaType", None),
    ("digest", None),
    ("size", None),
    ("urls", None),
    ("annotations", None),
    ("artifactType", None),
    ("platform", Some(&PLATFORM)),
]);

pub(crate) const PLATFORM: Fields = Fields(&[("os", None), ("architecture", None), ("variant", None)]);

/// A field that readers take differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("some readers take the field `{found}` for `{meant}`, others do not know it")]
pub struct Ambiguous {
    /// As it is written.
    found: String,
    /// As it should be written.
    meant: &'static str,
}

/// Refuses a field whose name is one of `fields` in another case. Malformed JSON is left to the parser.
///
/// # Errors
/// There is such a field.
pub fn check(json: &[u8], fields: &Fields) -> Result<(), Ambiguous> {
    // As Go reads it, if it is not UTF-8.
    check_text(&String::from_utf8_lossy(json), fields)
}

fn check_text(json: &str, fields: &Fields) -> Result<(), Ambiguous> {
    // Of lists in lists nothing is read, however deep they are.
    match serde_json::from_str::<Vec<&RawValue>>(json) {
        Ok(all) => all.iter().try_for_each(|one| check_object(one.get(), fields)),
        Err(_) => check_object(json, fields),
    }
}

fn check_object(json: &str, fields: &Fields) -> Result<(), Ambiguous> {
    let Ok(Object(entries)) = serde_json::from_str(json) else { return Ok(()) };
    for (name, value) in &entries {
        match fields.0.iter().find(|(known, _)| folded(known).eq(folded(name))) {
            Some((meant, _)) if meant != name => return Err(Ambiguous { found: excerpt(name), meant }),
            Some((_, Some(inside))) => check_text(value.get(), inside)?,
            _ => {}
        }
    }
    Ok(())
}

/// As Go compares names (<https://go.dev/src/encoding/json/fold.go>): two letters beyond ASCII are the same as one in it.
fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    })
}

/// A JSON object whose values keep their own bytes and their order.
pub(crate) struct Object<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_only_go_would_read_is_named() {
        let found = |json: &[u8]| check(json, &MANIFEST).map_err(|ambiguous| ambiguous.found);
        for (json, name) in [
            (&br#"{"Layers":[]}"#[..], "Layers"),
            (br#"{"layers":[],"LAYERS":[]}"#, "LAYERS"),
            (br#"{"l\u0061Yers":[]}"#, "laYers"),
            ("{\"layer\u{17f}\":[]}".as_bytes(), "layer\u{17f}"),
            (b"{\"x\":\"\xff\",\"Config\":{}}", "Config"),
            (br#"{"manifests":[{"digest":"x"},{"Digest":"x"}]}"#, "Digest"),
            (br#"{"manifests":[{"platform":{"OS":"linux"}}]}"#, "OS"),
            (br#"{"config":{"mediatype":"x"}}"#, "mediatype"),
            (br#"{"subject":{"Size":1}}"#, "Size"),
            (br#"{"layers":[{"URLs":[]}]}"#, "URLs"),
        ] {
            assert_eq!(found(json), Err(name.to_owned()));
        }
        for json in [
            &br#"{"layers":[{"digest":"x"}],"x":{"Digest":1},"annotations":{"Digest":"x"}}"#[..],
            br#"{"layers":{"annotations":{"SIZE":"x"}},"layer":[]}"#,
            br#"{"Layers":[]"#,
            b"null",
            b"",
        ] {
            assert_eq!(found(json), Ok(()), "{}", json.escape_ascii());
        }
    }
}
