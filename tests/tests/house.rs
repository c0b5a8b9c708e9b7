//! Limits for files, functions and types: exceptions are listed here, and the lists may only shrink.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use e2e::root;
use syn::visit::{self, Visit};

/// Lines of a file.
const LINES: usize = 400;
/// Parameters of a function, `self` not counted.
const PARAMETERS: usize = 6;
/// Methods of a type in all its `impl` blocks without a trait.
const METHODS: usize = 12;

/// Files that a program wrote.
const GENERATED: &[&str] = &["crates/provider-standin/src/protocol/tfplugin6.rs"];

/// Files that are still too long.
const LONG_FILES: &[&str] = &[];

/// Functions that still have too many parameters, each with its file.
const WIDE_FUNCTIONS: &[&str] = &[];

/// Types that still have too many methods, each with the file that defines it.
const LARGE_TYPES: &[&str] = &[];

#[test]
fn files_functions_and_types_are_within_the_limits() {
    let mut long = BTreeMap::new();
    let mut wide = BTreeMap::new();
    let mut large = BTreeMap::new();
    for folder in crates() {
        let sources = sources(&folder);
        for (file, text, _) in &sources {
            long.insert(file.clone(), text.lines().count());
        }
        for (name, parameters) in functions(&sources) {
            let most = wide.entry(name).or_insert(0);
            *most = parameters.max(*most);
        }
        large.extend(methods(&sources));
    }
    let mut wrong = differences("lines", long, LINES, LONG_FILES);
    wrong.extend(differences("parameters", wide, PARAMETERS, WIDE_FUNCTIONS));
    wrong.extend(differences("methods", large, METHODS, LARGE_TYPES));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn parameters_and_methods_are_counted_in_every_form() {
    let texts = [
        ("a.rs", "pub struct A;\nimpl A { fn f(&self, a: u8) {} }\nmod inner { fn g(a: u8, b: u8) {} }"),
        ("b.rs", "impl<T> super::a::A { fn f2() {} fn f3() {} }\nimpl Clone for A { fn clone(&self) {} }"),
        ("c.rs", "struct B;\nimpl B { fn f() { fn h(a: u8, b: u8, c: u8) {} } }"),
        ("d.rs", "enum B {}\nimpl B { fn f() {} fn g() {} }\ntrait T { fn t(&self, a: u8, b: u8); }"),
    ];
    let parsed = texts.map(|(file, text)| (file.to_owned(), text.to_owned(), syn::parse_file(text).unwrap()));
    let named = |counts: &[(&str, usize)]| {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(methods(&parsed), named(&[("A in a.rs", 3), ("B in c.rs", 1), ("B in d.rs", 2)]));
    let found: BTreeMap<String, usize> = functions(&parsed).into_iter().collect();
    for (name, parameters) in [("f in a.rs", 1), ("g in a.rs", 2), ("h in c.rs", 3), ("t in d.rs", 2)] {
        assert_eq!(found.get(name), Some(&parameters), "{name}: {found:?}");
    }
    let counts = named(&[("a", 1), ("b", 2), ("c", 2)]);
    assert_eq!(
        differences("lines", counts, 1, &["b", "d"]),
        ["c: 2 lines", "d is listed and within 1 lines"]
    );
}

/// Items over the limit that are not listed, and listed ones that are not over it.
fn differences(what: &str, counts: BTreeMap<String, usize>, most: usize, listed: &[&str]) -> Vec<String> {
    let over: BTreeMap<String, usize> = counts.into_iter().filter(|(_, count)| *count > most).collect();
    let new = over.iter().filter(|(name, _)| !listed.contains(&name.as_str()));
    let new = new.map(|(name, count)| format!("{name}: {count} {what}"));
    let gone = listed.iter().filter(|name| !over.contains_key(**name));
    new.chain(gone.map(|name| format!("{name} is listed and within {most} {what}"))).collect()
}

/// A source file, relative to the workspace: its name, its text and its syntax tree.
type Source = (String, String, syn::File);

/// Every function with its number of parameters.
fn functions(sources: &[Source]) -> Vec<(String, usize)> {
    struct Functions<'a>(&'a str, Vec<(String, usize)>);
    impl<'ast> Visit<'ast> for Functions<'_> {
        fn visit_signature(&mut self, signature: &'ast syn::Signature) {
            let typed = signature.inputs.iter().filter(|input| matches!(input, syn::FnArg::Typed(_)));
            self.1.push((format!("{} in {}", signature.ident, self.0), typed.count()));
            visit::visit_signature(self, signature);
        }
    }
    let mut found = Vec::new();
    for (file, _, parsed) in sources {
        let mut functions = Functions(file, Vec::new());
        functions.visit_file(parsed);
        found.append(&mut functions.1);
    }
    found
}

/// Every type of a crate that has methods, with their number.
fn methods(sources: &[Source]) -> BTreeMap<String, usize> {
    #[derive(Default)]
    struct Types {
        defined: BTreeSet<String>,
        methods: BTreeMap<String, usize>,
    }
    impl<'ast> Visit<'ast> for Types {
        fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
            self.defined.insert(item.ident.to_string());
        }
        fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
            self.defined.insert(item.ident.to_string());
        }
        fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
            if let (None, syn::Type::Path(path)) = (&item.trait_, &*item.self_ty) {
                let functions = item.items.iter().filter(|item| matches!(item, syn::ImplItem::Fn(_)));
                let name = path.path.segments.last().unwrap().ident.to_string();
                *self.methods.entry(name).or_default() += functions.count();
            }
            visit::visit_item_impl(self, item);
        }
    }
    let mut files = Vec::new();
    for (file, _, parsed) in sources {
        let mut types = Types::default();
        types.visit_file(parsed);
        files.push((file, types));
    }
    let mut counts = BTreeMap::new();
    for (file, types) in &files {
        for (name, count) in &types.methods {
            let elsewhere = || files.iter().find(|(_, other)| other.defined.contains(name));
            let own = types.defined.contains(name).then_some(*file);
            let defined = own.or_else(|| elsewhere().map(|(file, _)| *file)).unwrap_or(file);
            *counts.entry(format!("{name} in {defined}")).or_default() += count;
        }
    }
    counts
}

/// The folders of the workspace's crates, relative to the workspace.
fn crates() -> Vec<String> {
    let names = std::fs::read_dir(root().join("crates")).unwrap();
    let names = names.map(|entry| format!("crates/{}", entry.unwrap().file_name().to_str().unwrap()));
    names.chain(["xtask", "tests", "bench"].map(str::to_owned)).collect()
}

/// The Rust files of a crate except generated ones, sorted.
fn sources(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    for below in ["src", "tests", "examples", "build.rs"] {
        collect(&root().join(folder).join(below), &mut files);
    }
    files.sort();
    let named = files.into_iter().map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text, parsed)
    });
    named.filter(|(file, ..)| !GENERATED.contains(&file.as_str())).collect()
}

/// The Rust files at a path or below it.
fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if path.extension().is_some_and(|ending| ending == "rs") && path.is_file() {
        files.push(path.to_owned());
    }
}
