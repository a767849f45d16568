//! Checks of the Docker engine, and of a stack in containers.

use std::fs;

use super::processes::chaos;
use super::{Check, machine, of_stack};
use crate::checks;
use crate::failure::Result;
use crate::home::{Home, repository};
use crate::runtime::{Containers, Runtime, compose};

/// Checks what `mfup --runtime docker` needs.
pub(super) async fn before_start(home: &Home) -> Vec<Check> {
    let (engine, images) = match base_images().await {
        Ok(missing) => (None, missing),
        Err(failure) => (Some(failure.message), Vec::new()),
    };
    vec![
        Check::new("engine", engine),
        Check::new("compose", compose::command().err().map(|failure| failure.message)),
        Check::new("base images", images),
        Check::new("disk", existing(home).and_then(|folder| checks::disk(&folder))),
    ]
}

fn existing(home: &Home) -> Option<Home> {
    let folder = home.path().ancestors().find(|folder| folder.is_dir())?;
    Home::at(folder).ok()
}

/// Returns the base images of the Dockerfile that the engine does not have. It may download them.
async fn base_images() -> Result<Vec<String>> {
    let dockerfile = fs::read_to_string(repository().join("Dockerfile")).unwrap_or_default();
    let names = ["DEBIAN", "RUST"].map(|name| format!("ARG {name}="));
    let images = names.iter().filter_map(|name| dockerfile.lines().find_map(|line| line.strip_prefix(name)));
    let missing = Containers::missing_images(images).await?;
    Ok(missing
        .into_iter()
        .map(|image| {
            format!(
                "the image {image} is missing. Download it: docker pull {image}, or make it: deploy/docker/base-images"
            )
        })
        .collect())
}

pub(super) async fn checks(home: &Home, containers: Containers) -> Result<Vec<Check>> {
    let projects = containers.projects_without_container().await?.into_iter().map(|project| {
        format!(
            "the volumes of the project {project} have no container. Start it: COMPOSE_PROJECT_NAME={project} mfup \
             --runtime docker. Or delete them: docker volume rm $(docker volume ls -q --filter \
             label=com.docker.compose.project={project})"
        )
    });
    let problems = containers.problems().await?;
    let mut checks = vec![
        Check::new("engine", None),
        Check::new("compose", compose::command().err().map(|failure| failure.message)),
        Check::new("disk", checks::disk(home)),
        Check::new("chaos", chaos(home)?),
        Check::new("containers", problems),
        Check::new("volumes", projects),
    ];
    let runtime = Runtime::Containers(containers);
    match runtime.stack(home).await {
        Ok(stack) => {
            checks.push(machine::certificates(home));
            checks.extend(of_stack(&stack, &runtime).await);
        }
        Err(failure) => checks.push(Check::new("stack", Some(failure.message))),
    }
    Ok(checks)
}
