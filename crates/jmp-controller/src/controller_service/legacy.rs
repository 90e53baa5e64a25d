//! The lease calls of clients before `ClientService`, and exporters' ReleaseLease.

use jmp_auth::IdentityKind;
use jmp_lease::pool::{Actor, Command, GivenDuration, NewLease};
use jmp_proto::v1;
use jmp_types::resource::{Exporter, Key, LabelSelector, Lease, Requirement};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::Controllers;
use crate::audit;
use crate::authentication::Caller;
use crate::convert;
use crate::names;

const CLIENT: &[IdentityKind] = &[IdentityKind::Client];

// === impl Controllers ===

impl Controllers {
    pub(super) async fn do_get_lease(
        &self,
        request: Request<v1::GetLeaseRequest>,
    ) -> Result<v1::GetLeaseResponse, Status> {
        let caller = self.context.caller(&request, CLIENT)?;
        self.context.guards.reads.check(caller.identity())?;
        let name = request.into_inner().name;
        names::check_length(&name)?;
        let key = Key::new(caller.key.namespace.clone(), name);
        let lease = match self.context.engine.present(&key).await? {
            Some(lease) => lease,
            None => self.stored(&key).await?,
        };
        if lease.client() != caller.key {
            return Err(Status::unknown("GetLease permission denied"));
        }
        let exporter = lease
            .exporter()
            .and_then(|exporter| self.context.view.get::<Exporter>(&exporter));
        Ok(v1::GetLeaseResponse {
            duration: lease
                .spec
                .duration
                .map(|length| convert::duration(length.0)),
            selector: Some(selector(&lease.spec.selector)),
            begin_time: lease.status.begin_time.map(convert::timestamp),
            end_time: lease.status.end_time.map(convert::timestamp),
            exporter_uuid: exporter.map(|exporter| exporter.metadata.uid.clone()),
            conditions: lease
                .status
                .conditions
                .iter()
                .map(convert::condition)
                .collect(),
        })
    }

    pub(super) async fn do_request_lease(
        &self,
        request: Request<v1::RequestLeaseRequest>,
    ) -> Result<v1::RequestLeaseResponse, Status> {
        const ACTION: &str = "RequestLease";
        let caller = self
            .context
            .audited_caller(&request, CLIENT, ACTION, "")
            .await?;
        let request = request.into_inner();
        let lease = NewLease {
            name: Uuid::now_v7().to_string(),
            uid: Uuid::new_v4().to_string(),
            client: Some(caller.key.clone()),
            selector: request
                .selector
                .map(label_selector)
                .unwrap_or_default()
                .to_string(),
            duration: request.duration.map(|given| GivenDuration {
                seconds: given.seconds,
                nanoseconds: given.nanos,
            }),
            ..NewLease::default()
        };
        let key = Key::new(caller.key.namespace.clone(), lease.name.clone());
        let work = async {
            self.context.guards.changes.check(caller.identity())?;
            let command = Command::Create(Box::new(lease));
            self.context.engine.command(command).await
        };
        let resource = audit::resource("lease", &key);
        let made = self
            .context
            .audited(&caller, ACTION, resource, work)
            .await?;
        Ok(v1::RequestLeaseResponse {
            name: made.metadata.name.clone(),
        })
    }

    /// Idempotent for a lease that has ended (facts: controller 4.1).
    pub(super) async fn do_release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Result<v1::ReleaseLeaseResponse, Status> {
        const ACTION: &str = "ReleaseLease";
        let both = [IdentityKind::Client, IdentityKind::Exporter];
        let caller = self
            .context
            .audited_caller(&request, &both, ACTION, "")
            .await?;
        let key = Key::new(caller.key.namespace.clone(), request.into_inner().name);
        let work = async {
            names::check_length(&key.name)?;
            self.context.guards.changes.check(caller.identity())?;
            self.release(&caller, &key).await
        };
        let resource = audit::resource("lease", &key);
        self.context
            .audited(&caller, ACTION, resource, work)
            .await?;
        Ok(v1::ReleaseLeaseResponse {})
    }

    async fn release(&self, caller: &Caller, key: &Key) -> Result<(), Status> {
        let is_exporter = caller.kind == IdentityKind::Exporter;
        let lease = self.context.lease(key).await?.ok_or_else(|| {
            let code = if is_exporter {
                Code::NotFound
            } else {
                Code::Unknown
            };
            Status::new(code, format!("lease {key} not found"))
        })?;
        if is_exporter {
            if lease.exporter().as_ref() != Some(&caller.key) {
                return Err(Status::failed_precondition(format!(
                    "lease {key} is not held by exporter {}",
                    caller.key
                )));
            }
        } else if lease.client() != caller.key {
            return Err(Status::unknown("ReleaseLease permission denied"));
        }
        if lease.status.ended || lease.spec.release {
            return Ok(());
        }
        let actor = if is_exporter {
            Actor::Exporter(caller.key.clone())
        } else {
            Actor::Client(caller.key.clone())
        };
        let command = Command::Release {
            actor,
            lease: key.clone(),
            method: "ReleaseLease",
        };
        match self.context.engine.command(command).await {
            Ok(_) => {}
            // It ended meanwhile: that is what was asked for.
            Err(_) if self.stored(key).await.is_ok_and(|lease| lease.status.ended) => {}
            Err(status) => return Err(status),
        }
        Ok(())
    }

    pub(super) fn do_list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<v1::ListLeasesResponse, Status> {
        let caller = self.context.caller(&request, CLIENT)?;
        self.context.guards.reads.check(caller.identity())?;
        let names = self
            .context
            .view
            .list::<Lease>(Some(&caller.key.namespace))
            .into_iter()
            .filter(|lease| lease.client() == caller.key)
            .map(|lease| lease.metadata.name.clone())
            .collect();
        Ok(v1::ListLeasesResponse { names })
    }

    async fn stored(&self, key: &Key) -> Result<Lease, Status> {
        let found = self.context.lease(key).await?;
        found
            .map(std::sync::Arc::unwrap_or_clone)
            .ok_or_else(|| Status::unknown(format!("lease {key} not found")))
    }
}

fn selector(selector: &LabelSelector) -> v1::LabelSelector {
    v1::LabelSelector {
        match_expressions: selector
            .match_expressions
            .iter()
            .map(|requirement| v1::LabelSelectorRequirement {
                key: requirement.key.clone(),
                operator: requirement.operator.clone(),
                values: requirement.values.clone(),
            })
            .collect(),
        match_labels: selector.match_labels.clone().into_iter().collect(),
    }
}

fn label_selector(selector: v1::LabelSelector) -> LabelSelector {
    LabelSelector {
        match_labels: selector.match_labels.into_iter().collect(),
        match_expressions: selector
            .match_expressions
            .into_iter()
            .map(|requirement| Requirement {
                key: requirement.key,
                operator: requirement.operator,
                values: requirement.values,
            })
            .collect(),
    }
}
