//! Reads the migrations of every database, and finds statements that a running system does not survive.
//!
//! squawk (<https://squawkhq.com>) parses PostgreSQL's grammar and has most rules. This module adds what squawk cannot
//! know: which tables exist before a migration, how sqlx applies it, and exemptions with a reason.
//!
//! It does not see inside functions and strings, nor what a called function does (`select attach_journal(..)`).

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use squawk_linter::{Linter, LinterSettings, Rule};
use squawk_syntax::{
    SourceFile, SyntaxKind,
    ast::{self, AstNode},
};

use crate::rules::{self, OwnRule, Problem, RULES};

/// sqlx applies a file that begins with this outside of a transaction.
const NO_TRANSACTION: &str = "-- no-transaction";
/// A comment before a statement: `-- mfcheck allow <rule>, <rule>: <reason>`.
const ALLOW: &str = "-- mfcheck allow ";
/// A shorter reason does not explain anything.
const REASON_WORDS_MIN: usize = 3;
/// Of a statement, a message shows the beginning.
const STATEMENT_CHARACTERS_MAX: usize = 90;

/// A statement that must be written differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub rule: String,
    pub problem: Problem,
    /// The first line of the statement; empty for a finding about the file.
    pub statement: String,
    pub why: String,
    pub instead: String,
}

/// A violation that the file allows, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exemption {
    pub file: String,
    pub line: usize,
    pub rules: Vec<String>,
    pub reason: String,
}

/// The result of a check.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub files: usize,
    pub findings: Vec<Finding>,
    pub exemptions: Vec<Exemption>,
    /// What was not checked.
    pub notes: Vec<String>,
}

impl Finding {
    pub fn of_file(rule: OwnRule, file: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: 1,
            rule: rule.name.to_owned(),
            problem: rule.problem,
            statement: String::new(),
            why: rule.why.to_owned(),
            instead: rule.instead.to_owned(),
        }
    }
}

/// Checks all folders in `migrations`, one for each database.
pub fn check(migrations: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let parent = migrations.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for database in names(migrations)?.into_iter().filter(|name| migrations.join(name).is_dir()) {
        let folder = migrations.join(&database);
        let mut numbers = HashMap::new();
        // A service applies the first file when its database is made. Later files find rows and running instances.
        let mut is_first = true;
        for name in names(&folder)? {
            let file = format!("{parent}/{database}/{name}");
            match number(&name) {
                None => report.findings.push(Finding::of_file(rules::FILE_NAME, &file)),
                Some(number) => match numbers.insert(number, name.clone()) {
                    None => {}
                    Some(other) => report.findings.push(Finding {
                        why: format!("{other} has the same number; {}", rules::FILE_NAME.why),
                        ..Finding::of_file(rules::FILE_NAME, &file)
                    }),
                },
            }
            let path = folder.join(&name);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let (findings, exemptions) = check_file(&file, &text, is_first);
            is_first = false;
            report.findings.extend(findings);
            report.exemptions.extend(exemptions);
            report.files += 1;
        }
    }
    ensure!(report.files > 0, "{} has no migrations: name a folder with one folder per database", migrations.display());
    Ok(report)
}

/// Returns the names in a folder, sorted.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot list {}", folder.display()))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Returns the number of a migration: 4 of `0004_known_addresses.sql`.
fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".sql")?.split_once('_')?.0.parse().ok()
}

/// A parsed statement, with what the rules need to know of it.
struct Statement {
    start: usize,
    end: usize,
    /// Whether it concerns only objects that the same file creates, so no running instance knows them.
    is_new: bool,
}

/// Checks one migration. The statements of the first one of a database find no rows and no running instance.
pub fn check_file(file: &str, text: &str, is_first: bool) -> (Vec<Finding>, Vec<Exemption>) {
    let parse = SourceFile::parse(text);
    let without_transaction = text.starts_with(NO_TRANSACTION);
    let tree = parse.tree();
    let created: HashSet<String> = tree.stmts().filter_map(|statement| created(&statement)).collect();
    let statements: Vec<(Statement, ast::Stmt)> =
        tree.stmts().map(|node| (Statement::of(&node, &created), node)).collect();

    // Each with the offset in the text: of squawk, then our own.
    let mut found: Vec<(usize, Finding)> = Vec::new();
    for error in parse.errors() {
        let why = format!("{}: {}", rules::SYNTAX.why, error.message());
        found.push((error.range().start().into(), Finding { why, ..Finding::of_file(rules::SYNTAX, file) }));
    }
    let mut linter = Linter::from(RULES.iter().map(|(rule, ..)| *rule));
    linter.settings = LinterSettings { assume_in_transaction: !without_transaction, ..LinterSettings::default() };
    for violation in linter.lint(&parse, text) {
        let (_, problem, instead) = RULES.iter().find(|(rule, ..)| *rule == violation.code).expect("an included rule");
        let offset = violation.text_range.start().into();
        // A column that the previous version does not know cannot restrict what it writes. squawk has other rules for
        // a column without a default, and for the locks of its constraints.
        let is_new_column = || {
            tree.syntax()
                .token_at_offset(violation.text_range.start())
                .right_biased()
                .is_some_and(|token| token.parent_ancestors().any(|node| node.kind() == SyntaxKind::ADD_COLUMN))
        };
        if violation.code == Rule::BanNewWriteRestriction && is_new_column() {
            continue;
        }
        found.push((
            offset,
            Finding {
                file: file.to_owned(),
                line: 0,
                rule: violation.code.to_string(),
                problem: *problem,
                statement: String::new(),
                why: violation.message,
                instead: (*instead).to_owned(),
            },
        ));
    }
    for (statement, node) in &statements {
        for rule in own_rules(node, without_transaction, statements.len()) {
            found.push((statement.start, Finding::of_file(rule, file)));
        }
    }

    let (mut allowed, mut invalid) = exemptions(file, text);
    let mut findings = Vec::new();
    for (offset, mut finding) in found {
        let statement = statements.iter().map(|(statement, _)| statement).find(|statement| statement.contains(offset));
        if finding.problem != Problem::Fails && (is_first || statement.is_some_and(|statement| statement.is_new)) {
            continue;
        }
        finding.line = line(text, offset);
        if let Some(statement) = statement {
            finding.statement = first_line(&text[statement.start..statement.end]);
            let allowed = allowed.iter_mut().find(|allowed| {
                allowed.exemption.rules.contains(&finding.rule) && allowed.precedes(statement, &statements)
            });
            if let Some(allowed) = allowed {
                allowed.used.insert(finding.rule);
                continue;
            }
        }
        findings.push(finding);
    }
    for allowed in &allowed {
        for rule in allowed.exemption.rules.iter().filter(|rule| !allowed.used.contains(*rule)) {
            let why = format!("the next statement does not violate {rule}; {}", rules::EXEMPTION.why);
            invalid.push(Finding { why, line: allowed.exemption.line, ..Finding::of_file(rules::EXEMPTION, file) });
        }
    }
    findings.append(&mut invalid);
    findings.sort_by_key(|finding| finding.line);
    (findings, allowed.into_iter().map(|allowed| allowed.exemption).collect())
}

impl Statement {
    fn of(node: &ast::Stmt, created: &HashSet<String>) -> Self {
        let range = node.syntax().text_range();
        // The range can begin with comments, which belong to no statement here.
        let begin = node.syntax().descendants_with_tokens().find(|item| {
            item.as_token().is_some_and(|token| !matches!(token.kind(), SyntaxKind::WHITESPACE | SyntaxKind::COMMENT))
        });
        let start = begin.map_or_else(|| range.start(), |token| token.text_range().start());
        let mut targets = targets(node).into_iter().peekable();
        let is_new = targets.peek().is_some() && targets.all(|target| created.contains(&target));
        Self { start: start.into(), end: range.end().into(), is_new }
    }

    fn contains(&self, offset: usize) -> bool {
        (self.start..self.end).contains(&offset)
    }
}

/// Returns the name of what a `create` statement creates.
fn created(statement: &ast::Stmt) -> Option<String> {
    let first = statement.syntax().descendants_with_tokens().find_map(|item| {
        item.into_token().filter(|token| !matches!(token.kind(), SyntaxKind::WHITESPACE | SyntaxKind::COMMENT))
    })?;
    // `if not exists` may find an older one, and `or replace` replaces it.
    let is_new = !statement
        .syntax()
        .children()
        .any(|node| matches!(node.kind(), SyntaxKind::IF_NOT_EXISTS | SyntaxKind::OR_REPLACE));
    let path = statement.syntax().descendants().find_map(ast::Path::cast)?;
    (first.kind() == SyntaxKind::CREATE_KW && is_new).then(|| path.segment()).flatten().map(|name| name.text())
}

/// Returns the names of the tables or other objects that a statement changes.
fn targets(statement: &ast::Stmt) -> Vec<String> {
    // `update` may begin with a query.
    let changed = match statement {
        ast::Stmt::Update(update) => update.relation_name().map(|name| name.syntax().clone()),
        ast::Stmt::Delete(delete) => delete.relation_name().map(|name| name.syntax().clone()),
        _ => Some(statement.syntax().clone()),
    };
    let names =
        changed.into_iter().flat_map(|node| node.descendants().filter_map(ast::PathRef::cast).collect::<Vec<_>>());
    let names = names.filter_map(|path| path.segment()).map(|name| name.text());
    let is_list = statement.syntax().first_token().is_some_and(|token| {
        matches!(token.kind(), SyntaxKind::DROP_KW | SyntaxKind::TRUNCATE_KW | SyntaxKind::LOCK_KW)
    });
    // Other names of a statement are those of referenced tables and of types.
    if is_list { names.collect() } else { names.take(1).collect() }
}

fn own_rules(statement: &ast::Stmt, without_transaction: bool, statements: usize) -> Vec<OwnRule> {
    let mut rules = Vec::new();
    rules.extend(match statement {
        ast::Stmt::Update(_) | ast::Stmt::Delete(_) | ast::Stmt::Merge(_) => Some(rules::BACKFILL),
        ast::Stmt::Lock(_) => Some(rules::LOCK_TABLE),
        ast::Stmt::Vacuum(_) | ast::Stmt::Cluster(_) => Some(rules::REWRITTEN_TABLE),
        ast::Stmt::Truncate(_) => Some(rules::TRUNCATE),
        ast::Stmt::Do(_) => Some(rules::DO_BLOCK),
        ast::Stmt::AlterTable(table) if table.actions().any(|action| adds_checked_column(&action)) => {
            Some(rules::INLINE_CHECK)
        }
        _ => None,
    });
    let is_concurrent =
        statement.syntax().descendants_with_tokens().any(|item| item.kind() == SyntaxKind::CONCURRENTLY_KW);
    rules.extend((is_concurrent && !without_transaction).then_some(rules::CONCURRENTLY_IN_TRANSACTION));
    rules.extend((without_transaction && statements > 1).then_some(rules::SEVERAL_WITHOUT_TRANSACTION));
    rules
}

fn adds_checked_column(action: &ast::AlterTableAction) -> bool {
    let ast::AlterTableAction::AddColumn(column) = action else { return false };
    column.constraints().any(|constraint| matches!(constraint, ast::Constraint::CheckConstraint(_)))
}

/// An exemption, and which of its rules the next statement violates.
struct Allowed {
    offset: usize,
    exemption: Exemption,
    used: HashSet<String>,
}

impl Allowed {
    /// Whether `statement` is the first one after the comment.
    fn precedes(&self, statement: &Statement, statements: &[(Statement, ast::Stmt)]) -> bool {
        statements.iter().map(|(other, _)| other.start).find(|start| *start > self.offset) == Some(statement.start)
    }
}

/// Returns the exemptions of a file, and a finding for each one without rules or without a reason.
fn exemptions(file: &str, text: &str) -> (Vec<Allowed>, Vec<Finding>) {
    let (mut allowed, mut invalid) = (Vec::new(), Vec::new());
    let mut offset = 0;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for (index, content) in lines.iter().enumerate() {
        let start = offset;
        offset += content.len();
        let finding = Finding { line: index + 1, ..Finding::of_file(rules::EXEMPTION, file) };
        // Comments of squawk need no reason.
        if content.contains("squawk-ignore") || content.contains("squawk-disable") {
            invalid.push(finding);
            continue;
        }
        let Some(comment) = content.trim().strip_prefix(ALLOW) else { continue };
        let (rules, reason) = comment.split_once(':').unwrap_or((comment, ""));
        let rest = lines[index + 1..].iter().map_while(|line| line.trim().strip_prefix("--"));
        let reason = rest
            .take_while(|line| !line.contains(ALLOW.trim_start_matches("--")))
            .fold(reason.trim().to_owned(), |reason, line| reason + " " + line.trim());
        let rules: Vec<_> = rules.split(',').map(|rule| rule.trim().to_owned()).collect();
        if reason.split_whitespace().count() < REASON_WORDS_MIN {
            invalid.push(finding);
            continue;
        }
        let exemption = Exemption { file: file.to_owned(), line: index + 1, rules, reason };
        allowed.push(Allowed { offset: start, exemption, used: HashSet::new() });
    }
    (allowed, invalid)
}

fn line(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

fn first_line(statement: &str) -> String {
    let line = statement.lines().next().unwrap_or_default();
    if line.chars().count() <= STATEMENT_CHARACTERS_MAX {
        return line.to_owned();
    }
    line.chars().take(STATEMENT_CHARACTERS_MAX).chain("..".chars()).collect()
}

#[cfg(test)]
mod tests;
