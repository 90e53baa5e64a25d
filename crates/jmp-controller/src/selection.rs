//! The filters of lists.

use std::collections::BTreeMap;

use jmp_types::Selector;
use jmp_types::resource::{LEASE_ENDED_LABEL, LabelSelector, Lease, Requirement, TAG_PREFIX};
use tonic::{Code, Status};

use crate::limits::SELECTOR_LIMIT;

/// Reads a label selector. `code` is that of a bad one: shipped controllers answer UNKNOWN to a bad
/// `filter` and INVALID_ARGUMENT to a bad `tag_filter` (facts: controller 4.2).
///
/// # Errors
/// A status with that code and a text that names the part.
pub fn parse(field: &str, text: &str, code: Code) -> Result<LabelSelector, Status> {
    if text.len() > SELECTOR_LIMIT {
        return Err(Status::invalid_argument(format!(
            "{field} has {} bytes, more than {SELECTOR_LIMIT}",
            text.len()
        )));
    }
    text.parse::<Selector>()
        .map(|selector| LabelSelector::from(&selector))
        .map_err(|error| Status::new(code, format!("{field}: {error}")))
}

/// Which leases a list is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSelection {
    /// On the labels of the lease.
    pub labels: LabelSelector,
    /// Only those that have not ended.
    pub only_active: bool,
}

// === impl LeaseSelection ===

impl LeaseSelection {
    /// Both filters and the wish of the caller; absent means active ones only.
    ///
    /// # Errors
    /// UNKNOWN for a bad `filter`, INVALID_ARGUMENT for a bad `tag_filter`.
    pub fn new(filter: &str, tags: &str, only_active: Option<bool>) -> Result<Self, Status> {
        let labels = parse("filter", filter, Code::Unknown)?;
        let tags = parse("tag_filter", tags, Code::InvalidArgument)?;
        Ok(Self {
            labels: both(labels, prefixed(tags)),
            only_active: only_active.unwrap_or(true),
        })
    }

    /// Whether the lease is among them.
    #[must_use]
    pub fn holds(&self, lease: &Lease) -> bool {
        !(self.only_active && is_ended(lease)) && self.labels.matches(&lease.metadata.labels)
    }
}

/// Whether a lease counts as over in lists.
#[must_use]
pub fn is_ended(lease: &Lease) -> bool {
    lease.status.ended || lease.metadata.labels.contains_key(LEASE_ENDED_LABEL)
}

/// The same conditions on tags, which are labels with a prefix.
fn prefixed(selector: LabelSelector) -> LabelSelector {
    let key = |key: String| format!("{TAG_PREFIX}{key}");
    LabelSelector {
        match_labels: selector
            .match_labels
            .into_iter()
            .map(|(name, value)| (key(name), value))
            .collect(),
        match_expressions: selector
            .match_expressions
            .into_iter()
            .map(|requirement| Requirement {
                key: key(requirement.key),
                ..requirement
            })
            .collect(),
    }
}

/// What satisfies both.
fn both(mut first: LabelSelector, second: LabelSelector) -> LabelSelector {
    let mut conflicts: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in second.match_labels {
        match first.match_labels.get(&key) {
            Some(present) if *present != value => {
                conflicts.insert(key, value);
            }
            _ => {
                first.match_labels.insert(key, value);
            }
        }
    }
    first.match_expressions.extend(second.match_expressions);
    // Two values of one label, which nothing satisfies, need the longer form.
    first
        .match_expressions
        .extend(conflicts.into_iter().map(|(key, value)| Requirement {
            key,
            operator: "In".into(),
            values: vec![value],
        }));
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(labels: &[(&str, &str)]) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        lease
    }

    #[test]
    fn all_conditions_must_hold() {
        let found = LeaseSelection::new("board=a", "team in (x,y),!old", None).unwrap();
        let tag = |name: &str| format!("{TAG_PREFIX}{name}");
        assert!(found.holds(&lease(&[("board", "a"), (&tag("team"), "x")])));
        assert!(!found.holds(&lease(&[("board", "a"), ("team", "x")])));
        assert!(!found.holds(&lease(&[(&tag("team"), "x")])));
        assert!(!found.holds(&lease(&[
            ("board", "a"),
            (&tag("team"), "x"),
            (&tag("old"), "")
        ])));
    }

    #[test]
    fn ended_leases_are_left_out_unless_wanted() {
        let mut over = lease(&[]);
        over.status.ended = true;
        let old = lease(&[(LEASE_ENDED_LABEL, "true")]);
        for wish in [None, Some(true)] {
            let found = LeaseSelection::new("", "", wish).unwrap();
            assert!(!found.holds(&over) && !found.holds(&old) && found.holds(&lease(&[])));
        }
        let all = LeaseSelection::new("", "", Some(false)).unwrap();
        assert!(all.holds(&over) && all.holds(&old));
    }

    #[test]
    fn bad_filters_have_the_codes_of_shipped_controllers() {
        let code = |filter, tags| LeaseSelection::new(filter, tags, None).unwrap_err().code();
        assert_eq!(code("a in (", ""), Code::Unknown);
        assert_eq!(code("", "a in ("), Code::InvalidArgument);
        assert_eq!(code(&"a,".repeat(20_000), ""), Code::InvalidArgument);
    }

    #[test]
    fn contradictions_are_kept() {
        let key = format!("{TAG_PREFIX}team");
        let found = LeaseSelection::new(&format!("{key}=x"), "team=y", None).unwrap();
        assert!(!found.holds(&lease(&[(&key, "x")])));
        assert!(!found.holds(&lease(&[(&key, "y")])));
    }
}
