//! The packages of an image, as SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{VERSION, purl};
use crate::LOCAL_REPOSITORY;
use crate::packages::Installed;
use crate::planned::Planned;
use crate::push::Packed;

/// The media type of the document and of its artifact (<https://www.iana.org/assignments/media-types/application/spdx+json>).
pub(super) const MEDIA_TYPE: &str = "application/spdx+json";

/// What the document covers.
const COVERS: &str = "Lists what dpkg, rpm and apk say is installed in the image. What came into it otherwise (files that were copied, \
                      downloaded or compiled, packages of pip, npm and the like) is not listed.";

/// The document about one platform's image.
pub(super) fn document(planned: &Planned, image: &Packed, installed: &Installed) -> Value {
    let (name, digest) = (&planned.name, image.manifest.digest());
    let mut packages = vec![json!({
        "SPDXID": "SPDXRef-Image",
        "name": format!("{LOCAL_REPOSITORY}:{name}"),
        "versionInfo": digest.to_string(),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "externalRefs": [reference(&purl::local_image(LOCAL_REPOSITORY, &digest, &image.platform.architecture, name))],
    })];
    let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    if let Some(base) = &planned.base {
        packages.push(json!({
            "SPDXID": "SPDXRef-Base",
            "name": base.name.to_string(),
            "versionInfo": base.digest.to_string(),
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "primaryPackagePurpose": "CONTAINER",
            "externalRefs": [reference(&purl::image(&base.name, &base.digest))],
        }));
        relationships.push(relationship("SPDXRef-Image", "DESCENDANT_OF", "SPDXRef-Base"));
    }
    if let Some(system) = &installed.system {
        let mut package = json!({
            "SPDXID": "SPDXRef-OperatingSystem",
            "name": system.id,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "primaryPackagePurpose": "OPERATING-SYSTEM",
        });
        if let Some(version) = &system.version {
            package["versionInfo"] = json!(version);
        }
        packages.push(package);
        relationships.push(relationship("SPDXRef-Image", "CONTAINS", "SPDXRef-OperatingSystem"));
    }
    for (number, package) in installed.packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{}", number + 1);
        let mut listed = json!({
            "SPDXID": id,
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
        });
        if let Some(epoch) = package.epoch {
            listed["versionInfo"] = json!(format!("{epoch}:{}", package.version));
        }
        if let Some(source) = &package.source {
            listed["sourceInfo"] = json!(format!("built from {source}"));
        }
        if let Some(purl) = purl::package(package, installed.system.as_ref()) {
            listed["externalRefs"] = json!([reference(&purl)]);
        }
        packages.push(listed);
        relationships.push(relationship("SPDXRef-Image", "CONTAINS", &id));
    }
    if !installed.unread.is_empty() {
        relationships.push(relationship("SPDXRef-Image", "CONTAINS", "NOASSERTION"));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{LOCAL_REPOSITORY}:{name} {}", image.platform),
        // Unique for each image, and the same each time it is built.
        "documentNamespace": format!("https://spdx.org/spdxdocs/{LOCAL_REPOSITORY}-{name}-{}", digest.hex()),
        "comment": comment(installed),
        "creationInfo": { "created": created(image), "creators": [format!("Tool: htc-grid-xtask-{VERSION}")] },
        "packages": packages,
        "relationships": relationships,
    })
}

fn comment(installed: &Installed) -> String {
    let mut comment = COVERS.to_owned();
    for line in &installed.unread {
        comment += &format!(" NOT COMPLETE: {line}.");
    }
    if !installed.has_database && installed.unread.is_empty() {
        comment += " The image has no database of any of these.";
    }
    comment
}

/// The creation time in the image's configuration, which is its base's: the clock is not used.
fn created(image: &Packed) -> String {
    let config: Value = serde_json::from_slice(image.config()).unwrap_or_default();
    let time = config["created"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let time = time.and_then(|time| Timestamp::from_second(time.as_second()).ok());
    time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

fn reference(purl: &str) -> Value {
    json!({ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl })
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}
