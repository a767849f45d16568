use super::*;

/// Returns the rule of each finding in a file that is not the first of its database.
fn rules_of(sql: &str) -> Vec<String> {
    check_file("later.sql", sql, false).0.into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn statements_that_break_the_previous_version_are_refused() {
    for (sql, rule) in [
        ("alter table users drop column nickname;", "ban-drop-column"),
        ("alter table users rename column nickname to name;", "renaming-column"),
        ("alter table users rename to people;", "renaming-table"),
        ("drop table users;", "ban-drop-table"),
        ("drop view nicknames;", "ban-drop-view"),
        ("drop function leader_of(text, text);", "ban-drop-function"),
        ("drop trigger journal on users;", "ban-drop-trigger"),
        ("drop index concurrently users_updated_at;", "ban-drop-index"),
        ("alter table users disable trigger all;", "ban-disable-trigger"),
        ("alter table users alter column id type text;", "changing-column-type"),
        ("alter table users add column theme text not null;", "adding-required-field"),
        ("alter table users add constraint named check (nickname <> '') not valid;", "ban-new-write-restriction"),
        ("create unique index concurrently on users (nickname);", "ban-new-write-restriction"),
        ("alter table users alter column nickname set not null;", "ban-new-write-restriction"),
        ("alter table users alter column nickname drop not null;", "ban-drop-not-null"),
        ("alter table users alter column online drop default;", "ban-drop-default"),
        ("truncate users;", "truncate"),
    ] {
        let (findings, _) = check_file("later.sql", sql, false);
        let finding = findings.iter().find(|finding| finding.rule == rule);
        let finding = finding.unwrap_or_else(|| panic!("{sql}: {rule} is missing in {findings:?}"));
        assert_eq!(finding.problem, Problem::BreaksPreviousVersion, "{sql}");
        assert!(!finding.why.is_empty() && !finding.instead.is_empty(), "{sql}: the reason, and what to do");
    }
}

#[test]
fn statements_that_lock_a_table_for_long_are_refused() {
    for (sql, rule) in [
        ("create index on users (nickname);", "require-concurrent-index-creation"),
        ("drop index users_updated_at;", "require-concurrent-index-deletion"),
        ("reindex table users;", "require-concurrent-reindex"),
        ("alter table users add constraint positive check (id > 0);", "constraint-missing-not-valid"),
        ("alter table users add foreign key (id) references people (id);", "adding-foreign-key-constraint"),
        ("alter table users add constraint one unique (nickname);", "disallowed-unique-constraint"),
        ("alter table users alter column nickname set not null;", "adding-not-nullable-field"),
        ("alter table users add column key uuid default gen_random_uuid();", "adding-field-with-default"),
        ("alter table users add column theme text check (theme <> '');", "check-of-new-column"),
        ("update users set online = false;", "backfill-in-migration"),
        ("with old as (select 1) update users set online = false from old;", "backfill-in-migration"),
        ("delete from users where not online;", "backfill-in-migration"),
        ("lock table users in share mode;", "lock-table"),
        ("vacuum full users;", "rewritten-table"),
        ("cluster users;", "rewritten-table"),
    ] {
        let (findings, _) = check_file("later.sql", sql, false);
        let finding = findings.iter().find(|finding| finding.rule == rule);
        let finding = finding.unwrap_or_else(|| panic!("{sql}: {rule} is missing in {findings:?}"));
        assert_eq!(finding.problem, Problem::LocksTable, "{sql}");
    }
}

#[test]
fn migrations_that_sqlx_or_postgresql_cannot_apply_are_refused() {
    for (sql, rule) in [
        ("alter tabel users add column theme text;", "syntax"),
        ("begin;", "transaction-nesting"),
        ("create index concurrently on users (nickname);", "concurrently-in-transaction"),
        (
            "-- no-transaction\ncreate index concurrently on users (nickname);\nanalyze users;",
            "several-statements-without-transaction",
        ),
        ("do $$ begin drop table users; end $$;", "do-block"),
    ] {
        assert!(rules_of(sql).contains(&rule.to_owned()), "{sql}: {:?}", rules_of(sql));
    }
}

#[test]
fn additions_that_old_and_new_instances_accept_pass() {
    for sql in [
        "alter table users add column theme text;",
        "alter table users add column theme text not null default 'light';",
        "-- no-transaction\ncreate index concurrently users_theme on users (theme);",
        "alter table users validate constraint named;",
        "insert into channels (name) values ('random');",
        "create or replace function leader_of(work text) returns text language sql as $$ select work $$;",
        "create view people as select id, nickname from users;",
    ] {
        assert_eq!(rules_of(sql), Vec::<String>::new(), "{sql}");
    }
}

#[test]
fn a_table_of_the_same_file_has_no_rows_and_no_readers() {
    let sql = "create table fresh (id bigint, name text);
        create unique index on fresh (name);
        alter table fresh add constraint named check (name <> '');
        update fresh set name = 'a';
        drop table fresh;";
    assert_eq!(rules_of(sql), Vec::<String>::new());
    // The table may exist already.
    assert_ne!(rules_of(&sql.replacen("table", "table if not exists", 1)), Vec::<String>::new());
    assert!(
        rules_of("create table fresh (id bigint); drop table fresh, users;").contains(&"ban-drop-table".to_owned())
    );
    assert_eq!(rules_of("create index on users (id); create table users_old ();").len(), 1);
}

#[test]
fn the_first_migration_of_a_database_finds_no_rows() {
    let sql = "create index inbox_stream on inbox (stream); create index concurrently on inbox (kind);";
    let (findings, _) = check_file("first.sql", sql, true);
    let rules: Vec<_> = findings.iter().map(|finding| &*finding.rule).collect();
    // It still has to be a migration that PostgreSQL can apply.
    assert_eq!(rules, ["concurrently-in-transaction"]);
}

#[test]
fn an_exemption_with_a_reason_allows_its_rules_for_the_next_statement() {
    let allowed = "-- mfcheck allow ban-drop-column: no version since 1.4
-- reads or writes it.
alter table users drop column theme;";
    let (findings, exemptions) = check_file("later.sql", allowed, false);
    assert_eq!(findings, []);
    assert_eq!(exemptions.len(), 1);
    assert_eq!(exemptions[0].reason, "no version since 1.4 reads or writes it.");

    let next = format!("{allowed}\nalter table users drop column name;");
    let (findings, _) = check_file("later.sql", &next, false);
    assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [4]);
    let another = allowed.replace("drop column theme", "rename column theme to colour");
    assert_eq!(rules_of(&another), ["exemption", "renaming-column"]);
}

#[test]
fn an_exemption_without_a_reason_or_of_squawk_is_refused() {
    for comment in ["-- mfcheck allow ban-drop-column:", "-- mfcheck allow ban-drop-column: it is fine"] {
        let is_reason = comment.ends_with("fine");
        let rules = rules_of(&format!("{comment}\nalter table users drop column theme;"));
        assert_eq!(rules, if is_reason { &[][..] } else { &["exemption", "ban-drop-column"] }, "{comment}");
    }
    let rules = rules_of("-- squawk-ignore ban-drop-column\nalter table users drop column theme;");
    assert!(rules.contains(&"exemption".to_owned()), "{rules:?}");
}

#[test]
fn a_finding_has_the_line_and_the_beginning_of_its_statement() {
    let sql =
        "-- A comment.\n\n-- Another.\nalter table users\n    add column theme text,\n    drop column nickname;\n";
    let (findings, _) = check_file("users/0004_theme.sql", sql, false);
    assert_eq!(findings.len(), 1);
    let Finding { file, line, statement, .. } = &findings[0];
    assert_eq!((&**file, *line, &**statement), ("users/0004_theme.sql", 6, "alter table users"));
}

#[test]
fn the_numbers_of_the_files_are_unique() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("users");
    fs::create_dir(&database).expect("a folder");
    for name in ["0001_users.sql", "0002_theme.sql", "0002_colour.sql", "last.sql"] {
        fs::write(database.join(name), "create table a ();").expect("a file");
    }
    let report = check(folder.path()).expect("a report");
    let files: Vec<_> = report.findings.iter().map(|finding| &finding.file[finding.file.len() - 10..]).collect();
    assert_eq!(files, ["_theme.sql", "s/last.sql"]);
    assert!(check(&database).is_err(), "a folder without folders has no migrations");
}

#[test]
fn the_migrations_of_this_repository_pass() {
    let report = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations")).expect("a report");
    assert_eq!(report.findings, []);
}

#[test]
fn the_example_of_the_guide_passes_with_exemptions_for_its_contract() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/rename-a-column");
    for (name, exemptions) in
        [("0004_expand.sql", 0), ("0005_constraint.sql", 1), ("0006_validate.sql", 0), ("0007_contract.sql", 5)]
    {
        let sql = fs::read_to_string(folder.join(name)).expect("a migration of the example");
        let (findings, exempted) = check_file(name, &sql, false);
        assert_eq!(findings, [], "{name}");
        assert_eq!(exempted.len(), exemptions, "{name}");
    }
}
