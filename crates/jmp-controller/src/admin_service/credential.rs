//! Tokens of objects of any kind.

use jmp_auth::IssuedToken;
use jmp_types::resource::{Administrator, Client, Exporter, Key, Kind, Router};
use tonic::Status;

use super::resources::keeps_an_administrator;
use crate::context::Context;
use crate::credentials::Renewal;
use crate::manifest::{Object, word};

/// A new token of the object.
pub(super) async fn issue(
    context: &Context,
    kind: Kind,
    key: &Key,
    renewal: Renewal,
) -> Result<IssuedToken, Status> {
    Ok(match kind {
        Kind::Client => context.issue::<Client>(key, renewal).await?.1,
        Kind::Exporter => context.issue::<Exporter>(key, renewal).await?.1,
        Kind::Administrator => context.issue::<Administrator>(key, renewal).await?.1,
        Kind::Router => context.issue::<Router>(key, renewal).await?.1,
        Kind::Lease | Kind::ExporterAccessPolicy => return Err(none(kind)),
    })
}

/// Ends all tokens of the object.
pub(super) async fn revoke(context: &Context, kind: Kind, key: &Key) -> Result<Object, Status> {
    let always = || Ok(());
    Ok(match kind {
        Kind::Client => {
            let revoked = context.revoke::<Client>(key, always).await?;
            Object::Client(Client::clone(&revoked))
        }
        Kind::Exporter => {
            let revoked = context.revoke::<Exporter>(key, always).await?;
            Object::Exporter(Exporter::clone(&revoked))
        }
        Kind::Administrator => {
            let others = keeps_an_administrator(context, key);
            let revoked = context.revoke::<Administrator>(key, others).await?;
            Object::Administrator(Administrator::clone(&revoked))
        }
        Kind::Router => {
            let revoked = context.revoke::<Router>(key, always).await?;
            Object::Router(Router::clone(&revoked))
        }
        Kind::Lease | Kind::ExporterAccessPolicy => return Err(none(kind)),
    })
}

fn none(kind: Kind) -> Status {
    Status::invalid_argument(format!(
        "{} has no credential: only client, exporter, admin and router do",
        word(kind)
    ))
}
