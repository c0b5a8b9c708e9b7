//! Request bodies of the SDKs: aws-chunked with trailers, and several kinds of checksums.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::fault::Fault;
use crate::http::header;

/// The object's own bytes, verified with the request's checksums.
pub(super) fn decode(parts: &Parts, bytes: Bytes) -> Result<Bytes, Fault> {
    let hash = header(parts, "x-amz-content-sha256").unwrap_or_default();
    let chunked = hash.starts_with("STREAMING-")
        || header(parts, "content-encoding")
            .is_some_and(|text| text.split(',').any(|part| part.trim() == "aws-chunked"));
    let (body, trailers) = if chunked { dechunk(&bytes)? } else { (bytes, Vec::new()) };
    if let Some(length) = header(parts, "x-amz-decoded-content-length")
        && length.parse() != Ok(body.len())
    {
        return Err(Fault::client(
            "IncompleteBody",
            format!("x-amz-decoded-content-length says {length} bytes, {} came", body.len()),
        ));
    }
    let announced = |name: &str| {
        let trailer = trailers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        trailer.or_else(|| header(parts, name))
    };
    if hash.len() == 64 && hash != hex::encode(Sha256::digest(&body)) {
        return Err(Fault::client(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ));
    }
    if announced("content-md5").is_some_and(|sum| sum != STANDARD.encode(Md5::digest(&body))) {
        return Err(Fault::client(
            "BadDigest",
            "The Content-MD5 you specified did not match what we received.",
        ));
    }
    let mismatch = |kind: &str| {
        Fault::client("BadDigest", format!("The {kind} you specified did not match the calculated checksum."))
    };
    if announced("x-amz-checksum-sha256").is_some_and(|sum| sum != STANDARD.encode(Sha256::digest(&body))) {
        return Err(mismatch("SHA256"));
    }
    if announced("x-amz-checksum-crc32").is_some_and(|sum| sum != STANDARD.encode(crc32(&body).to_be_bytes()))
    {
        return Err(mismatch("CRC32"));
    }
    Ok(body)
}

/// CRC-32 as in zip: the default checksum of SDKs.
fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|index| {
        let start = u32::try_from(index).unwrap_or(0);
        (0..8).fold(start, |value, _| if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 })
    });
    !bytes.iter().fold(!0_u32, |crc, byte| table[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

type Trailers = Vec<(String, String)>;

/// Decodes `SIZE[;chunk-signature=…]\r
/// …\r
/// ` (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>).
fn dechunk(bytes: &[u8]) -> Result<(Bytes, Trailers), Fault> {
    let broken = || Fault::client("IncompleteBody", "the aws-chunked body cannot be read");
    let line = |bytes: &[u8]| bytes.windows(2).position(|pair| pair == b"\r\n");
    let (mut body, mut rest) = (BytesMut::new(), bytes);
    loop {
        let end = line(rest).ok_or_else(broken)?;
        let head = std::str::from_utf8(&rest[..end]).map_err(|_| broken())?;
        let size = usize::from_str_radix(head.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| broken())?;
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size).ok_or_else(broken)?);
        rest = rest.get(size..).and_then(|rest| rest.strip_prefix(b"\r\n")).ok_or_else(broken)?;
    }
    let trailers = String::from_utf8_lossy(rest)
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
        .collect();
    Ok((body.freeze(), trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_trailers() {
        let text =
            b"5\r\nhello\r\n6;chunk-signature=0\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
        let (body, trailers) = dechunk(text).unwrap();
        assert_eq!(&body[..], b"hello world");
        assert_eq!(trailers, [("x-amz-checksum-crc32".to_owned(), "DUoRhQ==".to_owned())]);
        assert_eq!(STANDARD.encode(crc32(b"hello world").to_be_bytes()), "DUoRhQ==");
        assert!(dechunk(b"5\r\nhel").is_err());
        assert!(dechunk(b"z\r\n").is_err());
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let parts = |name: &str, value: &str| {
            http::Request::builder().header(name, value).body(()).unwrap().into_parts().0
        };
        let body = Bytes::from_static(b"hello world");
        assert!(decode(&parts("x-amz-checksum-crc32", "DUoRhQ=="), body.clone()).is_ok());
        assert_eq!(
            decode(&parts("x-amz-checksum-crc32", "AAAAAA=="), body.clone()).unwrap_err().code,
            "BadDigest"
        );
        assert!(decode(&parts("content-md5", "XrY7u+Ae7tCTyyK7j1rNww=="), body.clone()).is_ok());
        assert!(decode(&parts("content-md5", "XrY7u+Ae7tCTyyK7j1rNwA=="), body).is_err());
    }
}
