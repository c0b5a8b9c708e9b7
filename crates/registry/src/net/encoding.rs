//! Replies that were compressed although we did not ask for it ([quay#1310](https://github.com/quay/quay/pull/1310)). A label
//! on bytes that are right without it (`x-gzip` on a layer, [moby#17595](https://github.com/moby/moby/issues/17595)) means
//! nothing: the digest decides.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::response::header;

/// Whether the reply says that it is compressed.
pub(crate) fn is_compressed(headers: &HeaderMap) -> bool {
    let encoding = header(headers, CONTENT_ENCODING.as_str()).unwrap_or_default().trim();
    encoding.eq_ignore_ascii_case("gzip") || encoding.eq_ignore_ascii_case("x-gzip")
}

/// The body as it was before the server compressed it, if that is the right one and has at most `limit` bytes; otherwise as it
/// came.
pub(crate) fn decoded(
    headers: &HeaderMap,
    body: Vec<u8>,
    limit: usize,
    is_right: impl Fn(&[u8]) -> bool,
) -> Vec<u8> {
    if !is_compressed(headers) || is_right(&body) {
        return body;
    }
    let mut plain = Vec::new();
    // One byte more, to see that a body without end is too long.
    let read = MultiGzDecoder::new(&*body).take(limit as u64 + 1).read_to_end(&mut plain);
    if read.is_ok() && plain.len() <= limit && is_right(&plain) { plain } else { body }
}

/// A body of JSON as it was before the server compressed it.
pub(crate) fn json(headers: &HeaderMap, body: Vec<u8>, limit: usize) -> Vec<u8> {
    decoded(headers, body, limit, is_json)
}

/// Whether this may be JSON, for replies without a digest.
pub(crate) fn is_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn headers(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, http::HeaderValue::from_static(encoding))])
    }

    #[test]
    fn uncompressed_bodies_are_unchanged_and_compressed_ones_unpacked_up_to_a_limit() {
        let (plain, packed) = (b"{\"a\": 1}".to_vec(), gzip(b"{\"a\": 1}"));
        for encoding in ["gzip", "x-gzip", "GZIP"] {
            assert_eq!(decoded(&headers(encoding), packed.clone(), 100, is_json), plain);
            assert_eq!(decoded(&headers(encoding), plain.clone(), 100, is_json), plain);
            let is_packed = |body: &[u8]| body == packed;
            assert_eq!(decoded(&headers(encoding), packed.clone(), 100, is_packed), packed, "a layer's own");
        }
        assert_eq!(decoded(&headers("br"), packed.clone(), 100, is_json), packed);
        assert_eq!(decoded(&HeaderMap::new(), packed.clone(), 100, is_json), packed);
        assert_eq!(decoded(&headers("gzip"), packed.clone(), 7, is_json), packed, "too long");
        let bomb = gzip(&vec![b'{'; 5_000_000]);
        assert_eq!(decoded(&headers("gzip"), bomb.clone(), 1_000, is_json), bomb);
        assert_eq!(decoded(&headers("gzip"), packed[..5].to_vec(), 100, is_json), packed[..5]);
    }
}
