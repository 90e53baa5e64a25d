//! One test for each thing that the interface macro and a driver must be able to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{Stream, StreamExt};
use jmp_driver::node::{ArgumentInfo, MethodInfo, NodeInfo};
use jmp_driver::tree::{NodeSpec, Services, Tree};
use jmp_driver::{
    ByteStream, CallContext, Driver, DriverHandle, ErrorKind, Interface, LogHub, MethodKind, Node,
    OpenContext, Origin, Registry, Resource, Result, UnknownKeys, interface,
};
use prost_types::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A base that others build on.
#[interface(client = "example.client.BaseClient")]
trait Base: Send + Sync + 'static {
    /// Who is there.
    async fn name(&self) -> Result<String>;

    /// What most do.
    async fn greet(&self) -> Result<String> {
        Ok(format!("hello from {}", self.name().await?))
    }
}

/// The base and more: an interface can extend another one.
#[interface(client = "example.client.ExtendedClient")]
trait Extended: Base {
    /// Loudly.
    async fn shout(&self) -> Result<String> {
        Ok(self.greet().await?.to_uppercase())
    }
}

/// A structure in both directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: Option<f64>,
}

/// Arguments of every kind.
#[interface(client = "example.client.ArgumentsClient")]
trait Arguments: Send + Sync + 'static {
    /// With a default and an optional one.
    async fn defaults(
        &self,
        first: u8,
        #[default(7)] second: u8,
        third: Option<String>,
    ) -> Result<(u8, u8, Option<String>)>;

    /// With a variable number.
    async fn sum(&self, start: i64, #[rest] more: Vec<i64>) -> Result<i64>;

    /// A structure.
    async fn mirror(&self, point: Point) -> Result<Point>;

    /// Under a name that no Rust method would have.
    #[method(name = "_recv_internal")]
    async fn receive(&self, timeout: Option<f64>) -> Result<Option<f64>>;

    /// An optional resource.
    async fn maybe(&self, resource: Option<Resource>) -> Result<bool>;
}

/// One name on the wire, two kinds of call.
#[interface(client = "example.client.TwoFacedClient")]
trait TwoFaced: Send + Sync + 'static {
    /// All at once.
    #[method(name = "run")]
    async fn run_once(&self, count: u32) -> Result<Vec<u32>>;

    /// One by one.
    #[method(name = "run")]
    fn run_stream(&self, count: u32) -> impl Stream<Item = Result<u32>> + Send;

    /// Raw bytes.
    #[stream]
    async fn connect(&self) -> Result<ByteStream>;
}

/// What `config` holds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Everything {
    /// What it calls itself.
    #[serde(default)]
    name: String,
}

static OPENED: AtomicUsize = AtomicUsize::new(0);
/// Of drivers called `root`, which only one test has.
static RESETS: AtomicUsize = AtomicUsize::new(0);
static CLOSES: AtomicUsize = AtomicUsize::new(0);

/// A driver with all of the interfaces.
#[derive(Default)]
struct Thing {
    name: String,
    resets: Arc<AtomicUsize>,
    closes: Arc<AtomicUsize>,
}

impl Base for Thing {
    async fn name(&self) -> Result<String> {
        Ok(self.name.clone())
    }
}

impl Extended for Thing {}

impl Arguments for Thing {
    async fn defaults(
        &self,
        first: u8,
        second: u8,
        third: Option<String>,
    ) -> Result<(u8, u8, Option<String>)> {
        Ok((first, second, third))
    }

    async fn sum(&self, start: i64, more: Vec<i64>) -> Result<i64> {
        Ok(start + more.iter().sum::<i64>())
    }

    async fn mirror(&self, point: Point) -> Result<Point> {
        Ok(point)
    }

    async fn receive(&self, timeout: Option<f64>) -> Result<Option<f64>> {
        Ok(timeout)
    }

    async fn maybe(&self, resource: Option<Resource>) -> Result<bool> {
        Ok(resource.is_some())
    }
}

impl TwoFaced for Thing {
    async fn run_once(&self, count: u32) -> Result<Vec<u32>> {
        Ok((0..count).collect())
    }

    fn run_stream(&self, count: u32) -> impl Stream<Item = Result<u32>> + Send {
        futures::stream::iter((0..count).map(|number| {
            // The context of the call is in reach inside a stream, too.
            assert_eq!(CallContext::current().origin(), Origin::Internal);
            Ok(number)
        }))
    }

    async fn connect(&self) -> Result<ByteStream> {
        Ok(ByteStream::echo(4))
    }
}

impl Driver for Thing {
    const TYPES: &'static [&'static str] = &["example.driver.Thing", "example.Thing"];
    const SUMMARY: &'static str = "has everything";
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Warn;
    type Config = Everything;

    async fn open(config: Everything, _: OpenContext) -> Result<Self> {
        OPENED.fetch_add(1, Ordering::SeqCst);
        Ok(Self {
            name: config.name,
            ..Self::default()
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![
            extended_interface(),
            base_interface(),
            arguments_interface(),
            two_faced_interface(),
        ]
    }

    fn client(&self) -> String {
        "example.client.ClassOfItsOwn".into()
    }

    fn dynamic_methods(&self) -> Vec<MethodInfo> {
        vec![MethodInfo {
            name: "made_up".into(),
            kind: MethodKind::Unary,
            documentation: "Known at run time only.".into(),
            arguments: vec![ArgumentInfo {
                name: "what".into(),
                type_name: "string".into(),
                optional: false,
                variadic: false,
            }],
        }]
    }

    async fn call_dynamic(&self, method: &str, arguments: Vec<Value>) -> Option<Result<Value>> {
        (method == "made_up").then(|| {
            arguments
                .into_iter()
                .next()
                .ok_or_else(|| jmp_driver::Error::invalid_argument("say what"))
        })
    }

    async fn reset(&self) -> Result<()> {
        self.resets.fetch_add(1, Ordering::SeqCst);
        RESETS.fetch_add(usize::from(self.name == "root"), Ordering::SeqCst);
        Ok(())
    }

    async fn close(&self) {
        self.closes.fetch_add(1, Ordering::SeqCst);
        CLOSES.fetch_add(usize::from(self.name == "root"), Ordering::SeqCst);
    }
}

fn thing() -> DriverHandle {
    let driver = Thing {
        name: "thing".into(),
        ..Thing::default()
    };
    handle(driver)
}

fn handle(driver: Thing) -> DriverHandle {
    let node = jmp_driver::node::DriverNode::new(driver, NodeInfo::default(), Vec::new());
    DriverHandle::local(jmp_driver::node::Link::Owned(Arc::new(node)))
}

#[test]
fn a_driver_can_have_a_client_class_of_its_own() {
    let node = jmp_driver::node::DriverNode::new(Thing::default(), NodeInfo::default(), vec![]);
    assert_eq!(node.info().client, "example.client.ClassOfItsOwn");
    assert_eq!(EXTENDED.client, "example.client.ExtendedClient");
}

#[tokio::test]
async fn interfaces_can_extend_each_other_and_stand_side_by_side() {
    let thing = thing();
    assert_eq!(
        BaseClient::new(thing.clone()).greet().await.unwrap(),
        "hello from thing"
    );
    assert_eq!(
        ExtendedClient::new(thing.clone()).shout().await.unwrap(),
        "HELLO FROM THING"
    );
    let sum = ArgumentsClient::new(thing).sum(1, vec![2, 3]).await;
    assert_eq!(sum.unwrap(), 6);
}

#[tokio::test]
async fn wire_names_are_free() {
    let thing = thing();
    let answer: Option<f64> = thing.call("_recv_internal", (0.5,)).await.unwrap();
    assert_eq!(answer, Some(0.5));
    let client = ArgumentsClient::new(thing.clone());
    assert_eq!(client.receive(None).await.unwrap(), None);
    let missing = thing.call::<()>("receive", ()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::MethodNotFound);
}

#[tokio::test]
async fn arguments_can_have_defaults_or_be_many() {
    let thing = thing();
    let short: (u8, u8, Option<String>) = thing.call("defaults", (1,)).await.unwrap();
    assert_eq!(short, (1, 7, None));
    let long: (u8, u8, Option<String>) = thing.call("defaults", (1, 2, "x")).await.unwrap();
    assert_eq!(long, (1, 2, Some("x".into())));
    // Every number is a double on the wire; only integral ones are integers.
    let float: (u8, u8, Option<String>) = thing.call("defaults", (1.0,)).await.unwrap();
    assert_eq!(float.0, 1);
    for (arguments, text) in [
        (json!([]), "argument `first` is missing"),
        (json!([1, 2, "x", 4]), "one argument too many"),
        (json!([1, 2, "x", 4, 5]), "2 arguments too many"),
    ] {
        let error = thing.call::<()>("defaults", arguments).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::InvalidArgument, text)
        );
    }
    for arguments in [json!([1.5]), json!([300]), json!(["one"]), json!([-1])] {
        let error = thing.call::<()>("defaults", arguments).await.unwrap_err();
        assert!(error.message().starts_with("argument `first`: "), "{error}");
    }
    let none: i64 = thing.call("sum", (5,)).await.unwrap();
    let many: i64 = thing.call("sum", (5, 6, 7, 8)).await.unwrap();
    assert_eq!((none, many), (5, 26));
    let wrong = thing.call::<()>("sum", (5, "x")).await.unwrap_err();
    assert!(wrong.message().starts_with("argument `more`: "), "{wrong}");
}

#[tokio::test]
async fn structures_and_optional_resources_travel() {
    let client = ArgumentsClient::new(thing());
    let point = Point { x: -3, y: None };
    assert_eq!(client.mirror(point.clone()).await.unwrap(), point);
    assert!(!client.maybe(None).await.unwrap());
    let (handle, _stream) = client.handle().open_resource(None).await.unwrap();
    assert!(client.maybe(Some(handle)).await.unwrap());
}

#[tokio::test]
async fn one_name_can_be_answered_both_ways() {
    let client = TwoFacedClient::new(thing());
    assert_eq!(client.run_once(3).await.unwrap(), [0, 1, 2]);
    let stream = client.run_stream(3).await.unwrap();
    let items: Vec<u32> = stream.map(Result::unwrap).collect().await;
    assert_eq!(items, [0, 1, 2]);
    let mut bytes = client.connect().await.unwrap();
    futures::SinkExt::send(&mut bytes.writer, "x".into())
        .await
        .unwrap();
    assert_eq!(bytes.reader.next().await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn methods_can_be_known_at_run_time_only() {
    let thing = thing();
    let answer: String = thing.call("made_up", ("it works",)).await.unwrap();
    assert_eq!(answer, "it works");
    let other = thing.call::<()>("not_made_up", ()).await.unwrap_err();
    assert_eq!(other.message(), "method not_made_up not found on driver");
}

#[test]
fn descriptors_say_what_can_be_called() {
    let node = jmp_driver::node::DriverNode::new(Thing::default(), NodeInfo::default(), vec![]);
    let methods = node.methods();
    let run: Vec<_> = methods
        .iter()
        .filter(|method| method.name == "run")
        .map(|method| method.kind)
        .collect();
    assert_eq!(run, [MethodKind::Unary, MethodKind::Streaming]);
    let find = |name: &str| methods.iter().find(|method| method.name == name).unwrap();
    assert_eq!(find("shout").documentation, "Loudly.");
    assert_eq!(find("connect").kind, MethodKind::ByteStream);
    assert_eq!(find("made_up").documentation, "Known at run time only.");
    let arguments: Vec<_> = find("defaults")
        .arguments
        .iter()
        .map(|argument| (argument.type_name.as_str(), argument.optional))
        .collect();
    assert_eq!(
        arguments,
        [("integer", false), ("integer", true), ("string", true)]
    );
    assert!(find("sum").arguments[1].variadic);
}

fn spec(children: Vec<(&str, NodeSpec)>) -> NodeSpec {
    NodeSpec::Driver {
        type_name: "example.Thing".into(),
        config: json!({"name": "root", "labels": {"a": 1}, "nmae": 1}),
        description: None,
        methods_description: Default::default(),
        children: children
            .into_iter()
            .map(|(name, child)| (name.to_owned(), child))
            .collect(),
    }
}

#[tokio::test]
async fn each_driver_is_reset_and_closed_once() {
    let mut registry = Registry::new();
    registry.add::<Thing>();
    let services = Services {
        log: LogHub::default(),
        clock: jmp_driver::clock::system(),
    };
    let reference = |path: &str| NodeSpec::Reference { path: path.into() };
    let root = spec(vec![
        ("real", spec(vec![])),
        ("first", reference("real")),
        ("second", reference("first")),
    ]);
    let tree = Tree::build(&registry, &root, &services).await.unwrap();
    assert_eq!(OPENED.load(Ordering::SeqCst), 2);
    assert_eq!(tree.nodes().len(), 2, "references are no drivers");
    assert_eq!(tree.reports().len(), 4, "and yet they are listed");
    let uuids: Vec<_> = tree.reports()[1..]
        .iter()
        .map(|report| report.uuid)
        .collect();
    assert!(uuids.iter().all(|uuid| *uuid == uuids[0]));
    assert_eq!(tree.reports()[0].labels["a"], "1");
    assert_eq!(tree.warnings.len(), 2);
    assert_eq!(tree.warnings[0].warning.nearest.as_deref(), Some("name"));
    tree.reset().await.unwrap();
    tree.close().await;
    let counts = (RESETS.load(Ordering::SeqCst), CLOSES.load(Ordering::SeqCst));
    assert_eq!(counts, (2, 2));
}

#[tokio::test]
async fn life_cycle_calls_reach_the_driver() {
    let driver = Thing::default();
    let (resets, closes) = (Arc::clone(&driver.resets), Arc::clone(&driver.closes));
    let node = jmp_driver::node::DriverNode::new(driver, NodeInfo::default(), vec![]);
    node.reset().await.unwrap();
    node.close().await;
    assert_eq!(resets.load(Ordering::SeqCst), 1);
    assert_eq!(closes.load(Ordering::SeqCst), 1);
}
