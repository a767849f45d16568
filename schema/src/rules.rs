//! The rules: those of squawk that concern a running system, and what to do instead.
//!
//! squawk has more rules, about style (`prefer-text-field`). Flack's style is in docs/STYLE.md.

use std::fmt;

use serde::Serialize;
use squawk_linter::Rule;

use Problem::{BreaksPreviousVersion, Fails, LocksTable};

/// What happens when the migration is applied to a running system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// Instances of the version before run at the same time, and their statements fail or lose data.
    BreaksPreviousVersion,
    /// Statements of all instances wait for a time that grows with the table.
    LocksTable,
    /// The migration cannot be checked or applied.
    Fails,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            BreaksPreviousVersion => "breaks the previous version",
            LocksTable => "locks a table for long",
            Fails => "fails",
        })
    }
}

const CONTRACT: &str =
    "remove every use in one release, and drop it in a later one, with an exemption that names that release";
const RENAME: &str = "add the new name, let triggers copy each write, and drop the old name in a later release";
const NOT_VALID: &str = "add it `not valid` in one migration, and `validate constraint` in the next one";
const ADD_ANOTHER: &str = "add another column, let triggers copy each write, backfill it, and drop the old one later";
const STOP_WRITERS: &str = "let one release write only what it accepts, and add it in a later release, with an \
     exemption that names that release";
const CONCURRENTLY: &str = "use `concurrently`, alone in a file that begins with `-- no-transaction`";
const USING_INDEX: &str =
    "create the index `concurrently` in one migration, and add the constraint `using index` in the next one";
const NULLABLE: &str = "leave the column nullable, or give it a constant default";
const DO_NOT: &str = "let the operator do it outside the migrations; a service must not";
const NO_COMMAND: &str = "remove the command: each migration is one transaction";

/// The rules of squawk that a migration must pass, with what to do instead.
pub const RULES: &[(Rule, Problem, &str)] = &[
    (Rule::BanDropColumn, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropTable, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropView, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropFunction, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropType, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropDomain, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropSchema, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropSequence, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropExtension, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropConstraint, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropIndex, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropTrigger, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropDefault, BreaksPreviousVersion, CONTRACT),
    // The previous version decodes the column into a type that has no null.
    (Rule::BanDropNotNull, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropGeneratedExpression, BreaksPreviousVersion, CONTRACT),
    (Rule::BanDropDatabase, BreaksPreviousVersion, DO_NOT),
    (Rule::BanDisableTrigger, BreaksPreviousVersion, DO_NOT),
    (Rule::BanTruncateCascade, BreaksPreviousVersion, DO_NOT),
    (Rule::BanRevoke, BreaksPreviousVersion, CONTRACT),
    (Rule::BanSetSchema, BreaksPreviousVersion, RENAME),
    (Rule::BanDetachInheritance, BreaksPreviousVersion, CONTRACT),
    (Rule::RenamingColumn, BreaksPreviousVersion, RENAME),
    (Rule::RenamingTable, BreaksPreviousVersion, RENAME),
    (Rule::RenamingObject, BreaksPreviousVersion, RENAME),
    (Rule::ChangingColumnType, BreaksPreviousVersion, ADD_ANOTHER),
    (Rule::BanAlterIdentity, BreaksPreviousVersion, ADD_ANOTHER),
    (Rule::BanAlterGeneratedExpression, LocksTable, ADD_ANOTHER),
    (Rule::BanNewWriteRestriction, BreaksPreviousVersion, STOP_WRITERS),
    (Rule::BanAlterDomainWithAddConstraint, BreaksPreviousVersion, STOP_WRITERS),
    (Rule::BanAddEnumValue, BreaksPreviousVersion, "let one release read the new value, and a later one add it"),
    (Rule::AddingRequiredField, BreaksPreviousVersion, NULLABLE),
    (
        Rule::AddingNotNullableField,
        LocksTable,
        "add `check (c is not null) not valid`, validate it in the next migration, and `set not null` after that",
    ),
    (Rule::AddingFieldWithDefault, LocksTable, "add the column without a default, and backfill it in batches"),
    (Rule::AddingSerialPrimaryKeyField, LocksTable, USING_INDEX),
    (Rule::AddingForeignKeyConstraint, LocksTable, NOT_VALID),
    (Rule::ConstraintMissingNotValid, LocksTable, NOT_VALID),
    (Rule::DisallowedUniqueConstraint, LocksTable, USING_INDEX),
    (Rule::RequireConcurrentIndexCreation, LocksTable, CONCURRENTLY),
    (Rule::RequireConcurrentIndexDeletion, LocksTable, CONCURRENTLY),
    (Rule::RequireConcurrentReindex, LocksTable, CONCURRENTLY),
    (Rule::RequireConcurrentPartitionDetach, LocksTable, CONCURRENTLY),
    (Rule::TransactionNesting, Fails, NO_COMMAND),
    (Rule::BanUncommittedTransaction, Fails, NO_COMMAND),
    (Rule::BanDuplicateColumnAssignments, Fails, "name each column once"),
    (Rule::IdentifierTooLong, Fails, "use a name of at most 63 bytes: PostgreSQL cuts off the rest"),
];

/// A rule that squawk does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnRule {
    pub name: &'static str,
    pub problem: Problem,
    pub why: &'static str,
    pub instead: &'static str,
}

pub const SYNTAX: OwnRule = OwnRule {
    name: "syntax",
    problem: Fails,
    why: "PostgreSQL's grammar does not have this, or the parser does not know it yet",
    instead: "correct the statement",
};
pub const FILE_NAME: OwnRule = OwnRule {
    name: "file-name",
    problem: Fails,
    why: "the number in the name is the version of the schema, and it must be unique in its folder",
    instead: "name the file <next number>_<what it does>.sql, such as 0004_known_addresses.sql",
};
pub const CHANGED_MIGRATION: OwnRule = OwnRule {
    name: "changed-migration",
    problem: Fails,
    why: "the last release has this file with another content: a database that it migrated refuses to start",
    instead: "restore the file, and write the change into a new one",
};
pub const BACKFILL: OwnRule = OwnRule {
    name: "backfill-in-migration",
    problem: LocksTable,
    why: "every row stays locked until the migration ends, and instances cannot start before",
    instead: "let the service backfill in batches while it runs; docs/guides/change-a-schema.md has an example",
};
pub const LOCK_TABLE: OwnRule = OwnRule {
    name: "lock-table",
    problem: LocksTable,
    why: "statements of all instances wait until the migration ends",
    instead: "remove the command",
};
pub const REWRITTEN_TABLE: OwnRule = OwnRule {
    name: "rewritten-table",
    problem: LocksTable,
    why: "no statement can read the table until PostgreSQL has written all of it again",
    instead: DO_NOT,
};
pub const TRUNCATE: OwnRule = OwnRule {
    name: "truncate",
    problem: BreaksPreviousVersion,
    why: "it deletes rows that instances of the previous version use",
    instead: "let the service delete in batches what is no longer needed",
};
pub const INLINE_CHECK: OwnRule = OwnRule {
    name: "check-of-new-column",
    problem: LocksTable,
    why: "PostgreSQL reads the whole table under an exclusive lock to verify the check",
    instead: "add the column without it; then add the constraint `not valid`, and validate it in the next migration",
};
pub const DO_BLOCK: OwnRule = OwnRule {
    name: "do-block",
    problem: Fails,
    why: "statements inside a block are not checked",
    instead: "write plain statements",
};
pub const CONCURRENTLY_IN_TRANSACTION: OwnRule = OwnRule {
    name: "concurrently-in-transaction",
    problem: Fails,
    why: "PostgreSQL refuses it inside a transaction, and each migration is one",
    instead: "write it alone into a file whose first line is `-- no-transaction`",
};
pub const SEVERAL_WITHOUT_TRANSACTION: OwnRule = OwnRule {
    name: "several-statements-without-transaction",
    problem: Fails,
    why: "PostgreSQL runs several statements of one query in a transaction",
    instead: "write each statement into a file of its own",
};
pub const EXEMPTION: OwnRule = OwnRule {
    name: "exemption",
    problem: Fails,
    why: "an exemption names rules that the next statement violates, and a reason of at least three words",
    instead: "write `-- mfcheck allow <rule>, <rule>: <reason>` before the statement, or remove the line",
};
