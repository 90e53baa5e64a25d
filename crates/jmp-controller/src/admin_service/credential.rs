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
    Ok(match kind {
        Kind::Client => Object::Client(Client::clone(&*context.revoke::<Client>(key).await?)),
        Kind::Exporter => {
            Object::Exporter(Exporter::clone(&*context.revoke::<Exporter>(key).await?))
        }
        Kind::Administrator => {
            keeps_an_administrator(context, key)?;
            let revoked = context.revoke::<Administrator>(key).await?;
            Object::Administrator(Administrator::clone(&*revoked))
        }
        Kind::Router => Object::Router(Router::clone(&*context.revoke::<Router>(key).await?)),
        Kind::Lease | Kind::ExporterAccessPolicy => return Err(none(kind)),
    })
}

fn none(kind: Kind) -> Status {
    Status::invalid_argument(format!(
        "{} has no credential: only client, exporter, admin and router do",
        word(kind)
    ))
}
