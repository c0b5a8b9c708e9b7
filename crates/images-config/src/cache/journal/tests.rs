use super::*;

const TODAY: u32 = 20_000;

fn open(path: &Path, today: u32) -> Journal {
    let (journal, unread) = Journal::open(path.to_owned(), today);
    assert!(unread.is_none(), "{unread:?}");
    journal
}

fn key(number: usize) -> String {
    format!("h:1/repository-{number}:tag")
}

/// Writes enough facts to make the journal sort the file.
fn fill(path: &Path, range: std::ops::Range<usize>, today: u32) {
    let mut journal = open(path, today);
    for number in range {
        assert!(journal.put(Kind::TargetDigest, &key(number), format!("value-{number}-{}", "x".repeat(60))));
    }
    journal.append().unwrap();
    journal.compact().unwrap();
}

fn has(path: &Path, number: usize, today: u32) -> bool {
    let value = open(path, today).get(Kind::TargetDigest, &key(number));
    value.is_some_and(|value| value.starts_with(&format!("value-{number}-")))
}

#[test]
fn existing_keys_are_found_in_the_sorted_part_and_missing_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mapping.json");
    fill(&path, 0..3_000, TODAY);
    let journal = open(&path, TODAY);
    assert!(journal.recent.is_empty() && journal.sorted.len() > LOOSE, "it was sorted");
    assert!((0..3_000).step_by(7).chain([2_999]).all(|number| has(&path, number, TODAY)));
    for absent in ["", "a", "h:1/repository-3000:tag", "h:1/repository-1:tag2", "z"] {
        assert_eq!(open(&path, TODAY).get(Kind::TargetDigest, absent), None, "{absent}");
        assert_eq!(open(&path, TODAY).get(Kind::SourceDigest, absent), None, "{absent}");
    }
    // Later facts count, before and after sorting.
    for number in [5, 1_500] {
        let mut journal = open(&path, TODAY);
        assert!(journal.put(Kind::TargetDigest, &key(number), "new".to_owned()));
        assert!(!journal.put(Kind::TargetDigest, &key(number), "new".to_owned()));
        journal.append().unwrap();
        assert_eq!(open(&path, TODAY).get(Kind::TargetDigest, &key(number)).unwrap(), "new");
    }
    fill(&path, 3_000..9_000, TODAY);
    assert_eq!(open(&path, TODAY).get(Kind::TargetDigest, &key(1_500)).unwrap(), "new");
    assert!(has(&path, 8_999, TODAY) && has(&path, 2_999, TODAY));
}

#[test]
fn only_new_facts_are_appended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mapping.json");
    fill(&path, 0..3_000, TODAY);
    let before = std::fs::read(&path).unwrap();
    fill(&path, 3_000..3_001, TODAY);
    let after = std::fs::read(&path).unwrap();
    assert!(after.starts_with(&before) && after.len() < before.len() + 200);
}

#[test]
fn facts_that_are_no_longer_used_are_removed_and_used_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mapping.json");
    fill(&path, 0..3_000, TODAY);
    let later = TODAY + KEPT - 1;
    let mut journal = open(&path, later);
    journal.get(Kind::TargetDigest, &key(7)).unwrap();
    assert!(journal.is_dirty(), "that it was asked for is noted");
    journal.append().unwrap();
    let mut journal = open(&path, later + 1);
    journal.get(Kind::TargetDigest, &key(7)).unwrap();
    assert!(!journal.is_dirty(), "not each time");
    fill(&path, 3_000..6_000, later + 2);
    assert!(has(&path, 7, later + 2) && has(&path, 5_999, later + 2));
    assert!(!has(&path, 8, later + 2) && !has(&path, 2_999, later + 2));
}

#[test]
fn a_kill_at_any_byte_loses_only_that_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mapping.json");
    let mut journal = open(&path, TODAY);
    journal.put(Kind::SourceDigest, "first", "one,two".to_owned());
    journal.append().unwrap();
    let whole = std::fs::read(&path).unwrap();
    journal.put(Kind::SourceDigest, "second", "three,four".to_owned());
    journal.append().unwrap();
    let longer = std::fs::read(&path).unwrap();
    for end in whole.len()..longer.len() {
        std::fs::write(&path, &longer[..end]).unwrap();
        let mut journal = open(&path, TODAY);
        assert_eq!(journal.get(Kind::SourceDigest, "first").unwrap(), "one,two");
        let second = journal.get(Kind::SourceDigest, "second");
        assert!(second.is_none() || second.as_deref() == Some("three,four"), "{end}: {second:?}");
        journal.put(Kind::SourceDigest, "third", "five".to_owned());
        journal.append().unwrap();
        let mut journal = open(&path, TODAY);
        assert_eq!(journal.get(Kind::SourceDigest, "third").unwrap(), "five", "{end}");
        assert_eq!(journal.get(Kind::SourceDigest, "first").unwrap(), "one,two");
    }
}

#[test]
fn simultaneous_runs_lose_nothing_even_while_one_sorts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mapping.json");
    std::thread::scope(|scope| {
        for run in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let mut journal = open(path, TODAY);
                for number in 0..1_500 {
                    let number = run * 1_500 + number;
                    journal.put(
                        Kind::TargetDigest,
                        &key(number),
                        format!("value-{number}-{}", "x".repeat(60)),
                    );
                    if number % 50 == 0 {
                        journal.append().unwrap();
                        journal.compact().unwrap();
                    }
                }
                journal.append().unwrap();
                journal.compact().unwrap();
            });
        }
    });
    let mut journal = open(&path, TODAY);
    assert!(!journal.sorted.is_empty(), "somebody sorted");
    for number in 0..6_000 {
        assert!(journal.get(Kind::TargetDigest, &key(number)).is_some(), "{number}");
    }
}
