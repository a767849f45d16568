use std::fs;

use super::*;

/// A repository with one migration, released as v1.0.0.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in
        [&["init", "-q"][..], &["config", "user.name", "test"], &["config", "user.email", "test@localhost"]]
    {
        git(folder.path(), arguments).expect("git works");
    }
    fs::create_dir_all(folder.path().join("migrations/users")).expect("a folder");
    write(&folder, "0001_users.sql", "create table users ();");
    commit(&folder);
    git(folder.path(), &["tag", "v1.0.0"]).expect("a tag");
    folder
}

fn write(repository: &tempfile::TempDir, name: &str, sql: &str) {
    fs::write(repository.path().join("migrations/users").join(name), sql).expect("a file");
}

fn commit(repository: &tempfile::TempDir) {
    git(repository.path(), &["add", "."]).expect("files are added");
    git(repository.path(), &["-c", "commit.gpgsign=false", "commit", "-q", "-m", "a"]).expect("a commit");
}

#[test]
fn a_changed_or_removed_migration_of_the_last_release_is_refused() {
    let repository = repository();
    write(&repository, "0002_theme.sql", "alter table users add column theme text;");
    let mut report = Report::default();
    check(repository.path(), &mut report);
    assert_eq!(report, Report::default(), "an added file passes");

    write(&repository, "0001_users.sql", "create table users (id bigint);");
    check(repository.path(), &mut report);
    fs::remove_file(repository.path().join("migrations/users/0001_users.sql")).expect("a removed file");
    check(repository.path(), &mut report);
    let found: Vec<_> = report.findings.iter().map(|finding| (&*finding.rule, &*finding.file)).collect();
    assert_eq!(found, [("changed-migration", "migrations/users/0001_users.sql"); 2]);
}

#[test]
fn the_previous_version_is_the_last_release_or_the_commit_before_the_schema_changed() {
    let repository = repository();
    assert_eq!(previous_version(repository.path()).expect("a version"), "v1.0.0");
    git(repository.path(), &["tag", "-d", "v1.0.0"]).expect("no tag");
    let first = git(repository.path(), &["rev-parse", "HEAD"]).expect("a commit");
    assert_eq!(previous_version(repository.path()).expect("a version"), format!("{first}^"));

    write(&repository, "0002_theme.sql", "alter table users add column theme text;");
    assert_eq!(previous_version(repository.path()).expect("a version"), "HEAD", "the change is not committed");
    commit(&repository);
    let second = git(repository.path(), &["rev-parse", "HEAD"]).expect("a commit");
    assert_eq!(previous_version(repository.path()).expect("a version"), format!("{second}^"));
    let changes = changes(repository.path(), "HEAD^").expect("changes");
    assert_eq!(changes, [('A', "migrations/users/0002_theme.sql".to_owned())]);
}
