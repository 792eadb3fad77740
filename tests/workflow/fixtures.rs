//! Workflows and activities of the suite: small, and each about one promise of the port.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use host_workflows::combine::join;
use host_workflows::{
    Activities, Activity, ActivityContext, ActivityError, Engine, Failure, Flow, FlowError, Retry,
    Undos, Workflow, Workflows,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// An engine under test and the world that its activities act on.
pub(crate) struct Bed {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) world: Arc<World>,
}

/// What the activities did, in order.
#[derive(Default)]
pub(crate) struct World {
    log: Mutex<Vec<String>>,
    released: Notify,
}

impl World {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }

    /// Lets one step go on that waits for it.
    pub(crate) fn release(&self) {
        self.released.notify_one();
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

/// Waits until `is_so`, at most for 20 s; says what was there instead.
pub(crate) async fn wait_for(what: &str, world: &World, is_so: impl Fn(&[String]) -> bool) {
    for _ in 0..2_000 {
        if is_so(&world.log()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come; the log is {:?}", world.log());
}

/// Quick tries for tests.
pub(crate) const QUICK: Retry = Retry {
    per_try: Duration::from_secs(10),
    heartbeat: None,
    tries: 3,
    first: Duration::from_millis(20),
    factor: 2.0,
    max: Duration::from_millis(100),
};

/// One activity that does as it is told.
#[derive(Clone, Copy)]
pub(crate) struct Act;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) behaviour: Behaviour,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Behaviour {
    Succeed,
    FailBelowTry(u32),
    FailForGood,
    UntilCancelled,
    UntilReleased,
    /// Beats once with the number of the try, and then hangs unless the try before had beaten.
    SilentOnce,
    PanicOnce,
    /// Answers with a text of so many bytes.
    Answer(usize),
}

impl Activity for Act {
    const NAME: &'static str = "act";
    const RETRY: Retry = QUICK;
    type Input = Told;
    type Output = String;
}

pub(crate) fn activities(world: &Arc<World>) -> Activities {
    let mut activities = Activities::default();
    let world = Arc::clone(world);
    activities.on(Act, move |ctx, told| {
        let world = Arc::clone(&world);
        async move { act(&world, &ctx, &told).await }
    });
    activities
}

async fn act(world: &World, ctx: &ActivityContext, told: &Told) -> Result<String, ActivityError> {
    let name = &told.name;
    match told.behaviour {
        Behaviour::Succeed => world.note(name),
        Behaviour::FailBelowTry(enough) => {
            world.note(format!("{name} try {}", ctx.attempt()));
            if ctx.attempt() < enough {
                return Err(ActivityError::retryable("not_yet", "try again"));
            }
        }
        Behaviour::FailForGood => {
            world.note(format!("{name} fails"));
            return Err(ActivityError::permanent("broken", "it is broken").with_output("last line"));
        }
        Behaviour::UntilCancelled => {
            world.note(format!("{name} began"));
            ctx.cancelled().await;
            assert!(ctx.is_cancelled());
            world.note(format!("{name} ended"));
            return Err(ActivityError::retryable("stopped", "it was stopped"));
        }
        Behaviour::UntilReleased => {
            world.note(format!("{name} began"));
            world.released.notified().await;
            world.note(format!("{name} ended"));
        }
        Behaviour::SilentOnce => {
            world.note(format!(
                "{name} try {} knows {:?}",
                ctx.attempt(),
                ctx.last::<u32>()
            ));
            if ctx.last::<u32>().is_none() {
                ctx.heartbeat(&ctx.attempt());
                std::future::pending::<()>().await;
            }
        }
        Behaviour::PanicOnce => {
            world.note(format!("{name} try {}", ctx.attempt()));
            assert!(ctx.attempt() > 1, "the first try panics");
        }
        Behaviour::Answer(bytes) => return Ok("x".repeat(bytes)),
    }
    Ok(ctx.key().to_owned())
}

/// Runs what it is told to, one after the other, each with an undo; answers with the keys.
pub(crate) struct Walk;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WalkInput {
    pub(crate) steps: Vec<(String, Behaviour)>,
    pub(crate) retry: Retry,
}

impl WalkInput {
    pub(crate) fn new(steps: &[(&str, Behaviour)]) -> Self {
        let steps = steps
            .iter()
            .map(|(name, behaviour)| ((*name).to_owned(), *behaviour));
        Self {
            steps: steps.collect(),
            retry: QUICK,
        }
    }
}

impl Workflow for Walk {
    const KIND: &'static str = "walk";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[Act::NAME];
    type Input = WalkInput;
    type Output = Vec<String>;

    async fn run(flow: Flow, input: WalkInput) -> Result<Vec<String>, Failure> {
        let mut undos = Undos::default();
        let mut keys = Vec::new();
        for (name, behaviour) in &input.steps {
            let undo = Told {
                name: format!("undo {name}"),
                behaviour: Behaviour::Succeed,
            };
            undos.push("undo", |flow| async move {
                flow.activity(Act, &undo).await.map(drop)
            });
            let told = Told {
                name: name.clone(),
                behaviour: *behaviour,
            };
            match flow.activity_with(Act, &told, input.retry).await {
                Ok(key) => keys.push(key),
                Err(error) => {
                    let leftovers = undos.unwind(&flow, |_, _| async {}).await;
                    return Err(Failure {
                        leftovers,
                        ..error.at(name)
                    });
                }
            }
        }
        Ok(keys)
    }
}

/// Works in rounds; between two it hears `pause`, and after that waits for `resume`.
pub(crate) struct Pausing;

impl Workflow for Pausing {
    const KIND: &'static str = "pausing";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[Act::NAME];
    type Input = u32;
    type Output = u32;

    async fn run(flow: Flow, rounds: u32) -> Result<u32, Failure> {
        pausing(&flow, rounds)
            .await
            .map_err(|error| error.at("pausing"))
    }
}

async fn pausing(flow: &Flow, rounds: u32) -> Result<u32, FlowError> {
    for round in 1..=rounds {
        // The order is given before the round: `go` or `pause`.
        let order: String = flow.signal("orders").await?;
        if order == "pause" {
            flow.status(&format!("paused before round {round}"))?;
            let _: String = flow.signal("resume").await?;
            flow.status(&format!("resumed before round {round}"))?;
        }
        let told = Told {
            name: format!("round {round}"),
            behaviour: Behaviour::Succeed,
        };
        flow.activity(Act, &told).await?;
    }
    Ok(rounds)
}

/// Reads two messages in each execution and begins anew until it has read `wanted`.
pub(crate) struct Reading;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadingInput {
    pub(crate) wanted: usize,
    pub(crate) read: Vec<u32>,
}

impl Workflow for Reading {
    const KIND: &'static str = "reading";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[Act::NAME];
    type Input = ReadingInput;
    type Output = (Vec<u32>, String);

    async fn run(flow: Flow, input: ReadingInput) -> Result<Self::Output, Failure> {
        reading(&flow, input)
            .await
            .map_err(|error| error.at("reading"))
    }
}

async fn reading(flow: &Flow, mut input: ReadingInput) -> Result<(Vec<u32>, String), FlowError> {
    let told = Told {
        name: "page".to_owned(),
        behaviour: Behaviour::Succeed,
    };
    let key = flow.activity(Act, &told).await?;
    for _ in 0..2 {
        input.read.push(flow.signal("numbers").await?);
    }
    if input.read.len() < input.wanted {
        match flow.again(&input).await? {}
    }
    Ok((input.read, key))
}

/// Runs activities side by side, and a child.
pub(crate) struct Fan;

impl Workflow for Fan {
    const KIND: &'static str = "fan";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[Act::NAME];
    type Input = usize;
    type Output = (usize, Vec<String>);

    async fn run(flow: Flow, width: usize) -> Result<Self::Output, Failure> {
        fan(&flow, width).await.map_err(|error| error.at("fan"))
    }
}

async fn fan(flow: &Flow, width: usize) -> Result<(usize, Vec<String>), FlowError> {
    let running = (0..width).map(|n| async move {
        let told = Told {
            name: format!("branch {n}"),
            behaviour: Behaviour::Succeed,
        };
        flow.activity(Act, &told).await
    });
    let keys: Vec<String> = join(running.collect())
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let child = WalkInput::new(&[("child", Behaviour::Succeed)]);
    let child = flow
        .child::<Walk>(&format!("{}-child", flow.id()), &child)
        .await?;
    Ok((keys.len(), child))
}

/// Waits for a message and ends with the number of its version.
pub(crate) struct Versioned<const MAJOR: u8>;

impl<const MAJOR: u8> Workflow for Versioned<MAJOR> {
    const KIND: &'static str = "versioned";
    const VERSION: &'static str = if MAJOR == 1 { "1.0.0" } else { "2.0.0" };
    const ACTIVITIES: &'static [&'static str] = &[];
    type Input = ();
    type Output = u8;

    async fn run(flow: Flow, (): ()) -> Result<u8, Failure> {
        let message = flow.signal::<String>("end").await;
        message.map_err(|error| error.at("end"))?;
        Ok(MAJOR)
    }
}

pub(crate) fn workflows() -> Workflows {
    Workflows::default()
        .with::<Walk>()
        .with::<Pausing>()
        .with::<Reading>()
        .with::<Fan>()
}
