//! Machines that OpenTofu or Terraform makes: a module per provider, a working folder and a state per machine.
//!
//! A plan is made and kept first; exactly that file is applied, held to the digest that the operation shows. What the engine
//! says of itself is not believed: after each apply and destroy its state is read. An apply that did not come to its end
//! is never finished: a plan holds for one state, so what was made of it is destroyed.

mod bucket;
mod folder;
mod lock;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host_domain::ids::OperationId;
use host_domain::node::Node;
use host_workflows::ActivityContext;
use secrecy::SecretString;
use serde_json::Value;

use self::folder::Folder;
use super::child::{self, Ended, Input, Output, Program, told};
use super::{Candidate, Created, Join, MachineProviderError, NodeMachine, Plan};
use crate::config::OpentofuConfig;

/// For fetching what a module needs.
const INIT_MAX: Duration = Duration::from_mins(4);
/// For a plan.
const PLAN_MAX: Duration = Duration::from_mins(4);
/// For reading the state.
const READ_MAX: Duration = Duration::from_mins(1);
/// How long the engine may take to write its state down once it was asked to stop.
const GRACE: Duration = Duration::from_mins(1);
/// Waits for whoever holds the state: an engine that a killed host left behind, until it ends.
const LOCK: &str = "-lock-timeout=60s";
/// Before the digest of the plan, in what the operation keeps.
const DIGEST_MARK: &str = "sha256:";
/// The status by which a plan says that there is something to do.
const HAS_CHANGES: i32 = 2;

/// A provider of kind `opentofu`.
pub struct Opentofu {
    pub(super) config: OpentofuConfig,
    /// PEM file with the authority that agents trust.
    pub(super) ca_file: PathBuf,
    /// Where the machines' folders are.
    pub(super) folder: PathBuf,
}

impl Opentofu {
    /// A machine of the node's own. A further one has a name of its own, and so a folder, a state and a plan: two are there at
    /// once while the node moves.
    pub(super) fn candidate(node: &Node, beside: Option<OperationId>) -> Candidate {
        let provider = &node.placement.provider;
        let name = match beside {
            None => format!("{provider}/{}", node.id),
            Some(migration) => {
                let migration = migration.to_string();
                // The end of a UUID v7 is its random part.
                let own = &migration[migration.len() - 12..];
                format!("{provider}/{}-{own}", node.id)
            }
        };
        Candidate {
            name,
            address: None,
        }
    }

    /// Makes a plan, and gives what it says to people with its digest.
    pub(super) async fn plan(
        &self,
        machine: &NodeMachine,
        join: Option<&Join>,
        ctx: &ActivityContext,
    ) -> Result<Plan, MachineProviderError> {
        let run = self.run(machine, join, ctx).await?;
        run.folder.prepare(&self.config)?;
        run.succeed("init", &["init", "-input=false", "-no-color"], INIT_MAX)
            .await?;
        let out = "-out=plan.bin";
        let args = [
            "plan",
            "-input=false",
            "-no-color",
            "-detailed-exitcode",
            LOCK,
            out,
        ];
        let planned = run.engine("plan", &args, PLAN_MAX).await?;
        match planned.status.code() {
            Some(HAS_CHANGES) => {}
            Some(0) => {
                return Err(run.failed(
                    "plan",
                    "the module makes nothing; it must make a machine",
                    planned.said,
                ));
            }
            _ => {
                return Err(run.failed(
                    "plan",
                    "the plan failed; the output says why",
                    planned.said,
                ));
            }
        }
        let digest = run.folder.plan_digest()?;
        let text = told(&String::from_utf8_lossy(&planned.answer), &run.secrets);
        Ok(Plan {
            text: format!(
                "{text}\n\nThe plan is {DIGEST_MARK}{digest}; this and nothing else is applied."
            ),
        })
    }

    /// Applies the plan that the operation keeps.
    pub(super) async fn create(
        &self,
        machine: &NodeMachine,
        ctx: &ActivityContext,
    ) -> Result<Created, MachineProviderError> {
        let run = self.run(machine, None, ctx).await?;
        if run.folder.is_applied() {
            return Ok(Created {
                address: run.address().await?,
                output: String::new(),
            });
        }
        if !run.is_empty().await? {
            let message = "an earlier try made a part of the machine, and a plan can't be applied twice; what there is will be destroyed";
            return Err(run.failed("apply", message, String::new()));
        }
        let kept = machine.planned.as_deref().and_then(digest_in);
        if kept != Some(run.folder.plan_digest()?.as_str()) {
            let message = "the plan in the working folder is not the one that the operation shows; nothing was applied, so ask for it again";
            return Err(run.failed("apply", message, String::new()));
        }
        run.folder.note_apply_begun()?;
        let args = ["apply", "-input=false", "-no-color", LOCK, "plan.bin"];
        let applied = run.engine("apply", &args, self.config.apply_limit).await?;
        if !applied.status.success() {
            if run.is_empty().await? {
                return Err(MachineProviderError::TryAgain {
                    step: run.name("apply"),
                    message: "it failed before anything was made; the output says why".to_owned(),
                    output: applied.said,
                });
            }
            let message = "it failed when a part of the machine was made; the output says why";
            return Err(run.failed("apply", message, applied.said));
        }
        let address = run.address().await?;
        if address.is_none() {
            let message = "it says that it succeeded, but there is no output `address`: the module is not one for Bellwether, or nothing was made";
            return Err(run.failed("apply", message, applied.said));
        }
        run.folder.note_applied()?;
        Ok(Created {
            address,
            output: applied.said,
        })
    }

    /// Destroys whatever the state knows, and forgets the machine when the state is empty.
    pub(super) async fn destroy(
        &self,
        machine: &NodeMachine,
        ctx: &ActivityContext,
    ) -> Result<String, MachineProviderError> {
        let run = self.run(machine, None, ctx).await?;
        if !run.folder.is_apply_begun() {
            let is_elsewhere = self.config.s3.is_some() && !run.folder.is_prepared();
            if !is_elsewhere {
                run.folder.remove()?;
                return Ok("Nothing was made, so nothing is destroyed.".to_owned());
            }
            // Another machine may have begun; a next try must not take what this one leaves here for all there is.
            run.folder.note_apply_begun()?;
        }
        run.folder.prepare(&self.config)?;
        run.succeed("init", &["init", "-input=false", "-no-color"], INIT_MAX)
            .await?;
        let mut output = "Nothing was left to destroy.".to_owned();
        // A state in a bucket may be another machine's, whose engine is still at work on it: only a destroy asks for its lock.
        if self.config.s3.is_some() || !run.is_empty().await? {
            let args = [
                "destroy",
                "-auto-approve",
                "-input=false",
                "-no-color",
                LOCK,
            ];
            output = run
                .succeed("destroy", &args, self.config.apply_limit)
                .await?
                .said;
            if !run.is_empty().await? {
                let message = "it says that it succeeded, but its state still knows a part of the machine; look at the provider's own page";
                return Err(run.failed("destroy", message, output));
            }
        }
        self.forget(machine).await;
        run.folder.remove()?;
        Ok(output)
    }

    /// Removes the state of a machine that is gone. What stays holds nothing, so the node does not wait for it.
    async fn forget(&self, machine: &NodeMachine) {
        let Some(s3) = &self.config.s3 else {
            return;
        };
        let name = own_name(machine);
        if let Err(error) = bucket::delete(s3, name, &self.config.secrets).await {
            let object = bucket::object(s3, name);
            tracing::warn!(
                bucket = s3.bucket,
                object,
                "an empty state stays, because it can't be deleted: {error:#}"
            );
        }
    }

    async fn run<'a>(
        &'a self,
        machine: &NodeMachine,
        join: Option<&Join>,
        ctx: &'a ActivityContext,
    ) -> Result<Run<'a>, MachineProviderError> {
        let token = join.map_or_else(SecretString::default, |join| join.token.clone());
        let mut secrets = vec![token.clone()];
        let mut environment = self.variables(machine, token)?;
        for (name, file) in &self.config.secrets {
            let secret = SecretString::from(read(file)?.trim().to_owned());
            secrets.push(secret.clone());
            environment.push((name.clone(), secret));
        }
        let folder = Folder::of(&self.folder, own_name(machine));
        Ok(Run {
            binary: &self.config.binary,
            lock: folder.lock(ctx).await?,
            folder,
            environment,
            secrets,
            ctx,
        })
    }

    /// What the engine is told: all by the environment, which only its own user can read.
    fn variables(
        &self,
        machine: &NodeMachine,
        token: SecretString,
    ) -> Result<Vec<(String, SecretString)>, MachineProviderError> {
        let placement = &machine.node.placement;
        let ca = read(&self.ca_file)?;
        let own = [
            ("TF_VAR_name", format!("bellwether-{}", own_name(machine))),
            ("TF_VAR_region", placement.region.clone()),
            ("TF_VAR_instance_type", placement.instance_type.clone()),
            ("TF_VAR_gateway", self.config.gateway.clone()),
            ("TF_VAR_ca_pem", ca),
            ("TF_IN_AUTOMATION", "1".to_owned()),
            ("CHECKPOINT_DISABLE", "1".to_owned()),
        ];
        let mut variables: Vec<_> = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), SecretString::from(value)))
            .collect();
        variables.push(("TF_VAR_token".to_owned(), token));
        for (name, value) in &self.config.variables {
            variables.push((format!("TF_VAR_{name}"), SecretString::from(value.clone())));
        }
        Ok(variables)
    }
}

/// What a machine is called within its provider.
fn own_name(machine: &NodeMachine) -> &str {
    let name = machine.record.name.as_str();
    name.rsplit_once('/').map_or(name, |(_, own)| own)
}

/// The engine on one machine's folder.
struct Run<'a> {
    binary: &'a Path,
    folder: Folder,
    /// Held while any engine of this run works, and by the engine itself when this host is gone.
    lock: File,
    environment: Vec<(String, SecretString)>,
    secrets: Vec<SecretString>,
    ctx: &'a ActivityContext,
}

impl Run<'_> {
    /// What messages call a command.
    fn name(&self, command: &str) -> String {
        let engine = self
            .binary
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        format!("{engine} {command}")
    }

    async fn engine(
        &self,
        command: &str,
        args: &[&str],
        limit: Duration,
    ) -> Result<Ended, MachineProviderError> {
        let mut program = Program::new(&self.name(command), self.binary, args);
        program.dir = Some(self.folder.module());
        program.environment.clone_from(&self.environment);
        program.secrets.clone_from(&self.secrets);
        let root = self.folder.root().to_owned();
        program.input = match self.lock.try_clone() {
            Ok(lock) => Input::File(lock),
            Err(source) => return Err(MachineProviderError::File { path: root, source }),
        };
        program.output = Output::Files(root);
        program.limit = limit;
        program.grace = GRACE;
        Ok(Box::pin(child::run(program, self.ctx)).await?)
    }

    async fn succeed(
        &self,
        command: &str,
        args: &[&str],
        limit: Duration,
    ) -> Result<Ended, MachineProviderError> {
        let ended = self.engine(command, args, limit).await?;
        if ended.status.success() {
            return Ok(ended);
        }
        Err(MachineProviderError::TryAgain {
            step: self.name(command),
            message: "it failed; the output says why".to_owned(),
            output: ended.said,
        })
    }

    /// Where the machine is, as the module says.
    async fn address(&self) -> Result<Option<String>, MachineProviderError> {
        let outputs = self.json("output", &["output", "-json"]).await?;
        let address = outputs.pointer("/address/value").and_then(Value::as_str);
        Ok(address.filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// Whether the state knows of nothing.
    async fn is_empty(&self) -> Result<bool, MachineProviderError> {
        let shown = self.json("show", &["show", "-json"]).await?;
        if shown.get("format_version").is_none() {
            return Err(self.failed("show", "it answered what is no state", shown.to_string()));
        }
        let has = |at: &str| {
            shown
                .pointer(at)
                .and_then(Value::as_array)
                .is_some_and(|all| !all.is_empty())
        };
        Ok(!has("/values/root_module/resources") && !has("/values/root_module/child_modules"))
    }

    async fn json(&self, command: &str, args: &[&str]) -> Result<Value, MachineProviderError> {
        let ended = self.succeed(command, args, READ_MAX).await?;
        // Some versions say something before the answer, on the same output.
        let start = ended
            .answer
            .iter()
            .position(|byte| *byte == b'{')
            .unwrap_or(0);
        serde_json::from_slice(&ended.answer[start..])
            .map_err(|_| self.failed(command, "it answered what is not JSON", ended.said))
    }

    fn failed(&self, command: &str, message: &str, output: String) -> MachineProviderError {
        MachineProviderError::Failed {
            step: self.name(command),
            message: message.to_owned(),
            output,
        }
    }
}

fn read(path: &Path) -> Result<String, MachineProviderError> {
    std::fs::read_to_string(path).map_err(|source| MachineProviderError::File {
        path: path.to_owned(),
        source,
    })
}

/// The digest in what an operation keeps of a plan.
fn digest_in(kept: &str) -> Option<&str> {
    let (_, rest) = kept.rsplit_once(DIGEST_MARK)?;
    rest.split(';').next()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_digest_of_a_kept_plan_is_found() {
        let digest = hex::encode(Sha256::digest(b"plan"));
        let kept = format!(
            "  + image = \"sha256:0\"\n\nThe plan is sha256:{digest}; this and nothing else is applied."
        );
        assert_eq!(digest_in(&kept), Some(digest.as_str()));
        assert_eq!(digest_in("no plan"), None);
    }
}
