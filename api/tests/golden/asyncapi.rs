//! Compares the channels of events and frames. The JSON Schemas are compared separately.

use crate::schema::{Comparison, members};

pub fn compare(comparison: &mut Comparison<'_>) {
    let (old, new) = (comparison.old(), comparison.new_document());
    let (before, after) = (members(&old["channels"]), members(&new["channels"]));
    for (name, channel) in &before {
        let place = format!("channel {name}");
        let Some(now) = after.get(name) else {
            comparison.found.breaking(&place, "the channel is removed");
            continue;
        };
        // The title contains the stream's name, which consumers use.
        for word in ["address", "title"] {
            if channel[word] != now[word] {
                comparison.found.breaking(&place, format!("{word} is {}, was {}", now[word], channel[word]));
            }
        }
        let (before, after) = (members(&channel["messages"]), members(&now["messages"]));
        for message in before.keys().filter(|message| !after.contains_key(*message)) {
            comparison.found.breaking(&place, format!("the message {message} is removed"));
        }
        for message in after.keys().filter(|message| !before.contains_key(*message)) {
            comparison.found.harmless(&place, format!("the message {message} is new"));
        }
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        comparison.found.harmless(&format!("channel {name}"), "the channel is new");
    }
}
