//! Compares the channels of events and frames. The JSON Schemas are compared separately.

use crate::schema::{Comparison, members};

pub fn compare(comparison: &mut Comparison<'_>) {
    let [old, new] = [comparison.old, comparison.new].map(|document| members(&document["channels"]));
    comparison.pairs("channel ", "channel", (&old, &new), |comparison, place, old, new| {
        // The title contains the stream's name, which consumers use.
        for word in ["address", "title"] {
            if old[word] != new[word] {
                comparison.found.breaking(place, format!("{word} is {}, was {}", new[word], old[word]));
            }
        }
        let messages = (&members(&old["messages"]), &members(&new["messages"]));
        comparison.pairs(&format!("{place} message "), "message", messages, |_, _, _, _| {});
    });
}
