//! What `mf` sees of a part: its record, the state of both sides, and who has not acknowledged the record.

use std::collections::BTreeMap;

use flack_handover::guards::{Measurements, Shadow, Verified};
use flack_handover::protocol::{Acknowledged, BALANCER, Status, acknowledged_key};
use flack_handover::{Entry, Part, Record, Side};

use super::records::Records;
use super::sides::Sides;
use crate::failure::Result;
use crate::registry::Registry;

/// What the operator allows.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    pub no_shadow: bool,
    pub lag_ms_max: u32,
}

#[derive(Debug)]
pub struct Observation {
    pub entry: Entry,
    pub owner: Option<Status>,
    /// The side that follows; none at a stage without one.
    pub replica: Option<Status>,
    /// Instances and balancers that have not acknowledged the record.
    pub behind: Vec<String>,
    /// Why a side could not be asked.
    pub problems: Vec<String>,
}

impl Observation {
    pub async fn of(part: Part, records: &Records, registry: &Registry, sides: Option<&Sides>) -> Result<Self> {
        let ((_, entry), acknowledged, snapshot) =
            tokio::try_join!(records.read(part), records.acknowledged(), registry.snapshot())?;
        let record = entry.record;
        let instances = snapshot.instances.iter().filter(|(_, instance)| !instance.draining);
        let instances = instances.map(|(name, instance)| (instance.service.as_str(), name.as_str()));
        let behind = behind(part, record, instances, &acknowledged);
        let mut observation = Self { entry, owner: None, replica: None, behind, problems: Vec::new() };
        let Some(sides) = sides else { return Ok(observation) };
        let follower =
            async { if record.stage.is_followed() { Some(sides.status(record.owner.other()).await) } else { None } };
        let (owner, replica) = tokio::join!(sides.status(record.owner), follower);
        let mut known = |status: std::result::Result<Status, String>| {
            status.map_err(|problem| observation.problems.push(problem)).ok()
        };
        (observation.owner, observation.replica) = (known(owner), replica.and_then(&mut known));
        Ok(observation)
    }

    pub fn record(&self) -> Record {
        self.entry.record
    }

    /// Returns what hinders the side that follows, and why a side could not be asked.
    pub fn hindrances(&self) -> Vec<String> {
        let following = self.replica.as_ref().and_then(|replica| replica.following.as_ref());
        let paused = following.filter(|it| it.is_paused).map(|_| "copy and apply are paused".to_owned());
        let throttled =
            following.and_then(|it| it.throttled.as_ref()).map(|why| format!("the copy is throttled: {why}"));
        let error =
            following.and_then(|it| it.error.as_ref()).map(|error| format!("the replica has an error: {error}"));
        paused.into_iter().chain(throttled).chain(error).chain(self.problems.iter().cloned()).collect()
    }

    /// Returns what the guards need. A part without data has nothing that could differ.
    pub fn measurements(&self, allowed: Allowed) -> Measurements {
        let behind = u32::try_from(self.behind.len()).ok();
        if !self.entry.part.has_data() {
            return Measurements { behind_the_stage: behind, ..Measurements::met() };
        }
        let following = self.replica.as_ref().and_then(|replica| replica.following.as_ref());
        let verification = self.replica.as_ref().and_then(|replica| replica.verification.as_ref());
        let compared = verification.and_then(|verification| Some((verification, verification.age_seconds?)));
        let shadow = self.owner.as_ref().map_or((0, 0), |owner| (owner.shadow.reads, owner.shadow.mismatches));
        let paused_or_failed =
            following.map(|following| u64::from(following.error.is_some()) + u64::from(following.is_paused));
        Measurements {
            rows_to_copy: following.map(|following| {
                let rows = following.rows_to_copy.saturating_sub(following.rows_copied);
                if following.is_copied { 0 } else { rows.max(1) }
            }),
            lag_ms: following.and_then(|following| following.lag_ms),
            lag_ms_max: allowed.lag_ms_max,
            verified: compared.map(|(it, age_seconds)| Verified { rows_different: it.rows_different, age_seconds }),
            shadow: if allowed.no_shadow {
                Shadow::Omitted
            } else {
                Shadow::Compared { reads: shadow.0, mismatches: shadow.1 }
            },
            way_back_age_seconds: self.owner.as_ref().and_then(|owner| owner.way_back_age_seconds),
            behind_the_stage: behind,
            // A row that only the replica has: its applier would have deleted it, so somebody else has written it.
            foreign_writes: compared.map(|(it, _)| {
                if it.rows_different == 0 {
                    0
                } else {
                    it.differences.iter().filter(|row| row.owner.is_none()).count() as u64
                }
            }),
            errors: paused_or_failed,
        }
    }
}

/// Returns who has not acknowledged a record: of the instances of both sides, and of the balancers. `acknowledged` is
/// by registry key.
fn behind<'instance>(
    part: Part,
    record: Record,
    instances: impl Iterator<Item = (&'instance str, &'instance str)>,
    acknowledged: &BTreeMap<String, Acknowledged>,
) -> Vec<String> {
    let expected = record.acknowledgement();
    let is_behind = |key: &String| acknowledged.get(key).and_then(|by_part| by_part.get(&part)) != Some(&expected);
    let sides = Side::ALL.map(|side| side.service_name(part));
    let mut behind: Vec<String> = instances
        .filter(|(service, name)| sides.contains(service) && is_behind(&acknowledged_key(service, name)))
        .map(|(_, name)| name.to_owned())
        .collect();
    let of_balancers = acknowledged_key(BALANCER, "");
    let mut balancers = acknowledged.keys().filter(|key| key.starts_with(&of_balancers)).peekable();
    if balancers.peek().is_none() {
        behind.push(BALANCER.to_owned());
    }
    behind.extend(balancers.filter(|key| is_behind(key)).map(|key| key[of_balancers.len()..].to_owned()));
    behind
}

#[cfg(test)]
mod tests {
    use flack_handover::Stage;

    use super::*;

    #[test]
    fn instances_of_both_sides_and_every_balancer_have_to_acknowledge_the_record() {
        let record = Record::initial(Side::Monolith).at(Stage::Following);
        let old = Record::initial(Side::Monolith);
        let written = |record: Record| Acknowledged::from([(Part::Users, record.acknowledgement())]);
        let instances = || [("users", "users-1"), ("monolith", "monolith-1"), ("tokens", "tokens-1")].into_iter();
        let mut acknowledged = BTreeMap::from([
            (acknowledged_key("users", "users-1"), written(record)),
            (acknowledged_key("monolith", "monolith-1"), written(old)),
        ]);
        let found = behind(Part::Users, record, instances(), &acknowledged);
        assert_eq!(found, ["monolith-1", BALANCER], "tokens is no side, and no balancer has written anything");
        acknowledged.insert(acknowledged_key("monolith", "monolith-1"), written(record));
        acknowledged.insert(acknowledged_key(BALANCER, "haproxy"), written(record));
        acknowledged.insert(acknowledged_key(BALANCER, "haproxy-2"), written(old));
        assert_eq!(behind(Part::Users, record, instances(), &acknowledged), ["haproxy-2"]);
    }
}
