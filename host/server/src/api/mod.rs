//! The HTTP API: parses, calls a use-case, shapes the answer. It decides nothing.
//!
//! Routes and their description come from the same attribute, so that the document can't promise what is not served.

mod agents;
mod api_keys;
mod audit;
mod auth;
mod chains;
mod console;
mod dead_letters;
mod edge;
mod events;
mod extract;
mod idempotency;
mod incidents;
mod keys;
mod limits;
mod me;
mod nodes;
mod operations;
mod page;
mod plugins;
mod problem;
mod subscriptions;
mod system;
mod workflows;

use std::future::Future;
use std::sync::Arc;

use axum::{Json, Router, middleware};
use host_wire::{FieldError, PROBLEM_JSON, ProblemBody};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, Required,
    ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;

use crate::ops::UseCases;

/// The state of the routes: the use cases, and nothing below them.
type Ops = Arc<UseCases>;

/// Name of the one way to authenticate in the document.
const API_KEY: &str = "api_key";

/// Serves until `shutdown`, and then lets requests in hand end.
pub fn serve(
    ops: Arc<UseCases>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> impl Future<Output = std::io::Result<()>> + Send {
    let router = router(&ops);
    async move {
        axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
    }
}

/// Everything that is served over HTTP.
pub fn router(ops: &Arc<UseCases>) -> Router {
    if system::recorder().is_err() {
        tracing::warn!("metrics are not recorded: another recorder was installed before");
    }
    let (private, _) = private_routes().split_for_parts();
    let (public, _) = system::routes().split_for_parts();
    let at_work = (Arc::clone(ops), idempotency::AtWork::default());
    // The last layer is the first that a request meets.
    let private = private
        .layer(middleware::from_fn_with_state(
            at_work,
            idempotency::repeat_answers,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(ops),
            auth::authenticate,
        ));
    let routes = Router::new()
        .nest("/api/v1", private)
        .merge(public)
        .merge(console::routes())
        .route(
            "/api/openapi.json",
            axum::routing::get(async || Json(openapi())),
        )
        .fallback(edge::no_such_route)
        .method_not_allowed_fallback(edge::no_such_method)
        .with_state(Arc::clone(ops));
    edge::wrap(routes, ops)
}

fn private_routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .merge(agents::routes())
        .merge(api_keys::routes())
        .merge(audit::routes())
        .merge(chains::routes())
        .merge(dead_letters::routes())
        .merge(events::routes())
        .merge(incidents::routes())
        .merge(keys::routes())
        .merge(me::routes())
        .merge(nodes::routes())
        .merge(operations::routes())
        .merge(plugins::routes())
        .merge(subscriptions::routes())
        .merge(workflows::routes())
}

/// The document of the API (OpenAPI 3.1), made of the handlers' own types.
pub fn openapi() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Bellwether")
        .version("v1")
        .description(Some("The control plane for fleets of blockchain nodes."))
        .build();
    let document = OpenApiBuilder::new().info(info).build();
    let routes = OpenApiRouter::with_openapi(document)
        .nest("/api/v1", private_routes())
        .merge(system::routes());
    let mut document = routes.into_openapi();
    document.merge(<ProblemDocument as utoipa::OpenApi>::openapi());
    if let Some(components) = &mut document.components {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme(API_KEY, bearer);
    }
    document.security = Some(vec![SecurityRequirement::new(
        API_KEY,
        Vec::<String>::new(),
    )]);
    describe_what_all_have(&mut document);
    document
}

/// Brings the schema of problems into the document.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(ProblemBody, FieldError)))]
struct ProblemDocument;

/// Any operation can answer with a problem, and any `POST` takes a key; said here once instead of at each.
fn describe_what_all_have(document: &mut OpenApi) {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    let problem = ResponseBuilder::new()
        .description("A problem; `type` leads to its page")
        .content(PROBLEM_JSON, content)
        .build();
    for item in document.paths.paths.values_mut() {
        let mut operations = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.delete,
        ];
        if let Some(post) = &mut operations[1] {
            let key = idempotency_key();
            post.parameters.get_or_insert_default().push(key.into());
        }
        for operation in operations.into_iter().flatten() {
            operation
                .responses
                .responses
                .insert("default".to_owned(), problem.clone().into());
        }
    }
}

fn idempotency_key() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Chosen by the client: a repeat with the same key is done once and gets the first answer",
        ))
        .schema(Some(text))
        .build()
}
