//! What a registry lists: tags, and the referrers of a manifest.

use std::collections::HashSet;

use http::Method;
use http::header::LINK;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use url::Url;

use crate::bugs::{self, Bug};
use crate::client::{Action, Call, Client, Connection, absent_as_none, counts_pulls, find_uncounted, tagged};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Descriptor, Index, Manifest, ManifestError, OCI_INDEX};
use crate::names;
use crate::net::http::answered_at;
use crate::net::response::{self, read_in_time};
use crate::net::{encoding, location};
use crate::reference::Reference;
use crate::size_limits;

/// All tags of the reference's repository; empty if the repository does not exist.
///
/// # Errors
/// When the registry cannot be reached or refuses, or the list has no end.
pub async fn tags(client: &Client, reference: &Reference) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    let mut first = client.connection.url(reference, "tags/list")?;
    // ECR refuses more than 1,000 at once.
    first.set_query(Some("n=1000"));
    let mut next = Some(first);
    let mut tags = Vec::new();
    for _ in 0..size_limits::LIST_PAGES {
        let Some(url) = next else { return Ok(tags) };
        let page = absent_as_none(page::<Page>(client, reference, &url).await)?;
        let Some((page, link)) = page else { return Ok(tags) };
        tags.extend(page.tags.unwrap_or_default());
        if tags.len() > size_limits::TAGS {
            let kind = ErrorKind::Protocol(format!("more than {} tags", size_limits::TAGS));
            return Err(Error::of(reference, kind));
        }
        next = link.filter(|link| *link != url);
    }
    Err(Error::of(
        reference,
        ErrorKind::Protocol(format!("more than {} pages of tags", size_limits::LIST_PAGES)),
    ))
}

/// Whether the registry knows the repository. Just after its creation it may not yet.
///
/// # Errors
/// When the registry cannot be reached or refuses.
pub async fn has_repository(client: &Client, reference: &Reference) -> Result<bool, Error> {
    Ok(absent_as_none(one_tag(client, reference).await)?.is_some())
}

/// Whether the registry says that there is no such repository. Not every registry does.
pub(crate) async fn lacks_repository(client: &Client, reference: &Reference) -> bool {
    let hasty = Client { connection: client.connection.hasty() };
    let answer = one_tag(&hasty, reference).await;
    answer.is_err_and(|error| matches!(error.kind(), ErrorKind::NameUnknown { .. }))
}

/// Asks for one tag, to see whether there is a repository.
async fn one_tag(client: &Client, reference: &Reference) -> Result<(), Error> {
    let mut url = client.connection.url(reference, "tags/list")?;
    url.set_query(Some("n=1"));
    page::<IgnoredAny>(client, reference, &url).await.map(drop)
}

/// The manifests that are about `reference`'s digest: signatures, attestations. By the referrers API, otherwise by the tag that
/// replaces it ([fallback](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#unavailable-referrers-api)).
///
/// # Errors
/// When the registry cannot be reached, or refuses for another reason than that it does not know the API.
pub async fn referrers(
    client: &Client,
    reference: &Reference,
    digest: Digest,
) -> Result<Vec<Descriptor>, Error> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default, deserialize_with = "crate::lenient::or_default")]
        manifests: Vec<Box<RawValue>>,
    }
    let malformed = |error| Error::of(reference, ErrorKind::Manifest(error));
    let has_api = client.connection.profile(reference.registry()).lists_referrers;
    let mut next = Some(client.connection.url(reference, &format!("referrers/{digest}"))?);
    let mut found = Vec::new();
    for _ in 0..size_limits::LIST_PAGES {
        let Some(url) = next else { return Ok(found) };
        match page::<Box<RawValue>>(client, reference, &url).await {
            Ok((page, link)) => {
                names::check(page.get().as_bytes(), &names::MANIFEST).map_err(|why| malformed(why.into()))?;
                let page: Page = serde_json::from_str(page.get())
                    .map_err(|why| malformed(ManifestError::Json(why.to_string())))?;
                let entries: Vec<&RawValue> = page.manifests.iter().map(|entry| &**entry).collect();
                // As in an index: what is listed by another algorithm's digest is left out.
                found.extend(Index::read(&entries).map_err(malformed)?.manifests);
                if found.len() > size_limits::DESCRIPTORS {
                    return Err(malformed(ManifestError::TooMany(found.len())));
                }
                next = link.filter(|link| *link != url);
            }
            Err(error) if knows_no_referrers(&error, has_api) => {
                return referrers_by_tag(client, reference, digest).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// [`referrers`] of an image and, if it is an index, of each image in it: an SBOM is about the image of one platform.
///
/// # Errors
/// As [`referrers`].
pub async fn referrers_of_all(
    client: &Client,
    reference: &Reference,
    digest: Digest,
) -> Result<Vec<Descriptor>, Error> {
    let manifest = client.manifest(&reference.with_digest(digest)).await?;
    let index = manifest.and_then(|manifest| manifest.index().ok());
    let mut found = referrers(client, reference, digest).await?;
    for child in index.into_iter().flat_map(|index| index.manifests) {
        found.extend(referrers(client, reference, child.digest).await?);
    }
    Ok(found)
}

/// The list that has to be put if the registry does not list `added` as referrers of `subject`: without the referrers API, the
/// client keeps the list, under a tag
/// ([specification](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject)).
///
/// # Errors
/// As [`referrers`].
pub async fn missing_referrers(
    client: &Client,
    reference: &Reference,
    subject: Digest,
    added: &[Descriptor],
) -> Result<Option<(Reference, Manifest)>, Error> {
    let mut list = referrers(client, reference, subject).await?;
    if bugs::is_in(Bug::ForgottenReferrers) {
        list.clear();
    }
    let known: HashSet<Digest> = list.iter().map(|descriptor| descriptor.digest).collect();
    list.extend(added.iter().filter(|descriptor| !known.contains(&descriptor.digest)).cloned());
    if list.len() == known.len() {
        return Ok(None);
    }
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list });
    Ok(Some((list_tag(reference, subject)?, Manifest::new(OCI_INDEX, index.to_string()))))
}

/// The tag under which cosign keeps the artifacts of `subject`; `suffix` is `sig` for signatures
/// (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery>).
pub fn cosign_tag(subject: Digest, suffix: &str) -> String {
    format!("sha256-{}.{suffix}", subject.hex())
}

/// What is under [`cosign_tag`]; `None` if nothing is, or if the registry reads the tag as the digest in it and returns the
/// image itself.
///
/// # Errors
/// As [`Client::find`].
pub async fn cosign_tagged(
    client: &Client,
    reference: &Reference,
    subject: Digest,
    suffix: &str,
) -> Result<Option<Descriptor>, Error> {
    let tag = tagged(reference, &cosign_tag(subject, suffix))?;
    Ok(find_uncounted(client, &tag).await?.filter(|there| there.digest != subject))
}

/// The tag of the list of referrers of `subject`, if the client keeps it.
fn list_tag(reference: &Reference, subject: Digest) -> Result<Reference, Error> {
    tagged(reference, &format!("sha256-{}", subject.hex()))
}

async fn referrers_by_tag(
    client: &Client,
    reference: &Reference,
    digest: Digest,
) -> Result<Vec<Descriptor>, Error> {
    let tag = list_tag(reference, digest)?;
    if counts_pulls(client, reference.registry())
        && client.head(&tag).await?.is_none_or(|there| there.digest == digest)
    {
        return Ok(Vec::new());
    }
    let Some(manifest) = client.manifest(&tag).await? else { return Ok(Vec::new()) };
    // Some registries read this tag as the digest in it, and return the image itself.
    if manifest.digest() == digest {
        return Ok(Vec::new());
    }
    let index = manifest.index().map_err(|error| Error::of(&tag, ErrorKind::Manifest(error)))?;
    Ok(index.manifests)
}

/// One page of a list, and where the next one is.
async fn page<T: DeserializeOwned>(
    client: &Client,
    reference: &Reference,
    url: &Url,
) -> Result<(T, Option<Url>), Error> {
    client.connection.retry(|| page_once(&client.connection, reference, url)).await
}

async fn page_once<T: DeserializeOwned>(
    connection: &Connection,
    reference: &Reference,
    url: &Url,
) -> Result<(T, Option<Url>), Error> {
    let call = Call::read(reference, Action::List, Method::GET, url.clone());
    let response = connection.send(call).await?;
    let (headers, status) = (response.headers().clone(), response.status().as_u16());
    let link = response::all(&headers, &LINK).find_map(next_link);
    let next = link.map(|link| location::resolve(answered_at(&response, url), &link)).transpose();
    let next = next.map_err(|kind| Error::of(reference, kind))?;
    let list = ("the list", size_limits::LIST_PAGE);
    let body = read_in_time(response, reference.registry(), list, connection.timeouts().reply).await;
    let body = body.map_err(|kind| Error::of(reference, kind))?;
    let body = encoding::json(&headers, body, size_limits::LIST_PAGE);
    if response::is_page(&headers, &body) {
        return Err(Error::of(reference, ErrorKind::Page { status }));
    }
    let page = serde_json::from_slice(&body).map_err(|error| {
        Error::of(reference, ErrorKind::Protocol(format!("a list that cannot be read: {error}")))
    })?;
    Ok((page, next))
}

fn knows_no_referrers(error: &Error, has_api: bool) -> bool {
    match error.kind() {
        ErrorKind::NotFound { .. } | ErrorKind::NameUnknown { .. } => true,
        // Of what it did not know yet, Harbor said that it is not allowed
        // ([regclient#389](https://github.com/regclient/regclient/pull/389)). A client that may not read is refused at the tag,
        // too. Where the API is known to be there, the tag would hide a missing permission.
        ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. } => !has_api,
        // Servers that send their own front page for an unknown path.
        ErrorKind::Page { status } => *status < 300,
        ErrorKind::Refused { status, .. } => matches!(status, 400 | 405 | 406 | 501),
        _ => false,
    }
}

/// The address in `<address>; rel="next"`.
fn next_link(value: &str) -> Option<String> {
    value.split('<').skip(1).find_map(|link| {
        let (address, parameters) = link.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim_matches([' ', '\t', ',']).to_ascii_lowercase();
            matches!(parameter.as_str(), "rel=next" | "rel=\"next\"")
        });
        is_next.then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        assert_eq!(
            next_link(r#"</v2/a/tags/list?n=1&last=x>; rel="next""#).unwrap(),
            "/v2/a/tags/list?n=1&last=x"
        );
        assert_eq!(next_link("<a>; rel=prev, <b>; rel=next").unwrap(), "b");
        assert_eq!(next_link("<a>; rel=prev"), None);
        assert_eq!(next_link("a; rel=next"), None);
    }

    #[test]
    fn fuzz_any_link_is_part_of_its_header() {
        crate::fuzz::each("links", |input| {
            let Some(text) = std::str::from_utf8(input).ok() else { return false };
            let Some(next) = next_link(text) else { return false };
            assert!(text.contains(&format!("<{next}>")) && !next.contains('>'));
            true
        });
    }
}
