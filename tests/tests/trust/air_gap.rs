//! Signatures through an air gap, in the file.

use std::sync::atomic::Ordering;

use e2e::{KeyHolder, TestRepository};
use serde_json::Value;

use super::{Place, REFUSED, named};

#[test]
fn only_signed_or_locked_images_are_imported_through_an_air_gap() {
    let Some(place) = Place::new() else { return };
    let (shelf, holder) = (place.shelf(), KeyHolder::new());
    place.file("cosign.pub", &holder.public());
    let rule = "{ signed_by = { key = \"cosign.pub\" } }";
    place.list(
        "img = { source = \"SOURCE/team/x:1\", platforms = \"all\" }\nchild = \"SOURCE/team/x:2\"",
        rule,
    );
    let image = shelf.image(Some("1"), b"one");
    let [index, _] = shelf.index("2", b"two");
    let export = || place.run("export-images --from-sources").arg(place.world.path("layout"));
    let refused = export().end().with_code(REFUSED);
    assert!(refused.stderr.contains("it has no signature"), "{refused}");
    shelf.tag(named(&image), &holder.sign(named(&image)));
    shelf.tag(named(&index), &holder.sign(named(&index)));
    export().ok();

    // Without results of earlier runs, the file itself has to contain the signature, or the lock the digest.
    std::fs::remove_dir_all(place.world.path("target")).unwrap();
    let import = || {
        let run = place.run(&format!("import-images --auto-approve --registry {}", place.target.host()));
        run.arg(place.world.path("layout"))
    };
    let refused = import().end().with_code(REFUSED);
    assert!(refused.stderr.contains("child") && refused.stderr.contains("it has no signature"), "{refused}");
    assert_eq!(place.target.files(), Vec::<String>::new());
    place.run("lock").ok();
    std::fs::remove_dir_all(place.world.path("target")).unwrap();
    import().ok();
    let signature = format!("{}.sig", named(&image).replace(':', "-"));
    assert!(TestRepository::new(place.target.host(), "img").read(&signature).is_some());
    assert_eq!(place.others.load(Ordering::SeqCst), 0, "somebody else was asked");
}

#[test]
fn a_files_signatures_are_verified_at_import() {
    let Some(place) = Place::new() else { return };
    let (shelf, holder) = (place.shelf(), KeyHolder::new());
    place.file("cosign.pub", &holder.public());
    place.list(
        "tagged = { source = \"SOURCE/team/x:1\", platforms = \"all\" }\n\
         bundled = { source = \"SOURCE/team/x:2\", platforms = \"all\" }",
        "{ signed_by = { key = \"cosign.pub\" } }",
    );
    let (one, two) = (shelf.image(Some("1"), b"one"), shelf.image(Some("2"), b"two"));
    shelf.tag(named(&one), &holder.sign(named(&one)));
    let bundle = shelf.attach(&two, &holder.bundle(named(&two)));
    let layout = place.world.path("layout");
    place.run("export-images --from-sources").arg(&layout).ok();
    let import = || {
        // Without results of earlier runs, only the file can show it.
        let remembered = place.world.path("target");
        if remembered.exists() {
            std::fs::remove_dir_all(remembered).unwrap();
        }
        let run = place.run(&format!("import-images --auto-approve --registry {}", place.target.host()));
        run.arg(&layout)
    };
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    let entries = |keep: &dyn Fn(&str) -> bool| {
        let mut index: Value = serde_json::from_str(&index).unwrap();
        let all = index["manifests"].as_array_mut().unwrap();
        let before = all.len();
        all.retain(|entry| keep(&entry.to_string()));
        assert!(all.len() < before, "nothing was taken out of {index}");
        std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    };
    let refused = |name: &str, words: &str| {
        let ended = import().end().with_code(REFUSED);
        assert!(ended.stderr.contains(name) && ended.stderr.contains(words), "{name}: {ended}");
        assert_eq!(place.target.files(), Vec::<String>::new(), "{name}: something was written to the target");
    };
    entries(&|entry| !entry.contains(".sig"));
    refused("tagged:1", "it has no signature");
    let list = named(&two).replace(':', "-");
    entries(&|entry| !entry.contains(&bundle) && !entry.contains(&list));
    refused("bundled:2", "it has no signature");
    // The file is complete, and the key is another one.
    std::fs::write(layout.join("index.json"), &index).unwrap();
    place.file("cosign.pub", &KeyHolder::new().public());
    refused("tagged:1", "it is signed by another key than cosign.pub");

    place.file("cosign.pub", &holder.public());
    import().ok();
    assert!(TestRepository::new(place.target.host(), "bundled").read(&bundle).is_some());
    let listed =
        place.run(&format!("list-images --format json --registry {}", place.target.host())).ok().json();
    for image in listed["images"].as_array().unwrap().iter().filter(|image| image["repository"] != "lambda") {
        assert_eq!(image["signed_by"], "cosign.pub", "{listed}");
    }
    assert_eq!(place.others.load(Ordering::SeqCst), 0, "somebody else was asked");
}
