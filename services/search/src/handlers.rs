//! The operation of `api/openapi/search.v1.yaml`.

use async_trait::async_trait;
use flack_api::{
    Context, Problem, TokenCaller,
    search::{SearchApi, types},
};

use crate::{
    cursor::Cursor,
    excerpt,
    query::Query,
    store::{Match, Scope, Store},
};

/// Results of a page whose request names no limit.
const PAGE_RESULTS: i32 = 20;

/// `querytree` of words that are all excluded.
const ONLY_EXCLUSIONS: &str = "T";

/// The search API over the projections.
#[derive(Debug)]
pub struct Search {
    store: Store,
}

impl Search {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl SearchApi for Search {
    async fn search_messages(
        &self,
        _context: &Context,
        caller: TokenCaller,
        q: types::SearchMessagesQ,
        cursor: Option<types::SearchCursor>,
        limit: Option<i32>,
    ) -> Result<types::SearchPage, Problem> {
        let query = Query::parse(&q)?;
        let after = cursor.map(|cursor| Cursor::decode(&cursor)).transpose()?;
        let scope = self.store.scope(caller.user_id, &query, after.map_or(i64::MAX, |after| after.newest_id)).await?;
        check(&query, &scope)?;
        let Some(newest_id) = scope.newest_id else {
            return Ok(types::SearchPage { results: Vec::new(), next: None });
        };
        let limit = limit.unwrap_or(PAGE_RESULTS);
        let results_max = usize::try_from(limit).unwrap_or_default();
        // One more shows whether there is another page.
        let mut matches = self.store.search(&scope, &query, after, limit + 1).await?;
        let has_next = matches.len() > results_max;
        matches.truncate(results_max);
        let last = matches.last().filter(|_| has_next);
        let next = last.map(|last| Cursor { newest_id, rank: last.rank, id: last.id }.encode());
        Ok(types::SearchPage { results: matches.into_iter().map(Into::into).collect(), next })
    }
}

/// 400 for a query that names something unknown, or nothing to be found.
fn check(query: &Query, scope: &Scope) -> Result<(), Problem> {
    if let (Some(author), None) = (&query.author, scope.author_id) {
        return Err(Problem::bad_request(format!("`q` has `from:{author}`, but no user has this nickname")));
    }
    if let (Some(channel), None) = (&query.channel, scope.channel_id) {
        // Also for a private channel of others: both have the same answer.
        return Err(Problem::bad_request(format!("`q` has `in:{channel}`, but there is no channel with this name")));
    }
    let has_filter = scope.author_id.is_some() || scope.channel_id.is_some();
    match scope.indexed.as_str() {
        "" if !has_filter => Err(Problem::bad_request(
            "`q` has nothing to be found; write a word, from: with a nickname, or in: with a channel",
        )),
        ONLY_EXCLUSIONS if !has_filter => {
            Err(Problem::bad_request("`q` only excludes messages; add a word that they have, from: or in:"))
        }
        _ => Ok(()),
    }
}

impl From<Match> for types::SearchResult {
    fn from(found: Match) -> Self {
        Self {
            message_id: found.id,
            thread_id: found.thread_id,
            channel_id: found.channel_id,
            channel_name: found.channel_name,
            user_id: found.user_id,
            nickname: found.nickname,
            created_at: found.created_at,
            excerpt: excerpt::segments(&found.excerpt),
        }
    }
}
