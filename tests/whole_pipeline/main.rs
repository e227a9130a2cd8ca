//! The program as its users meet it: the whole method on tiny synthetic patients (`tiny.yaml`), run, killed, changed
//! and fed with bad data.
//!
//! - `method`: what a run leaves behind: every result, on the right grid; frozen parts; true labels that win
//! - `killed`: the runner or a stage dies amid training, and the next run comes to the same bits
//! - `changed`: what a change of data or parameters runs again, and what it does not
//! - `bad_data`: damaged and contradictory files, each told once with case, file, finding and remedy
//! - `bad_places`: missing weights, empty subsets, a full disk, and mistakes in pipeline files
//! - `editors`, `validator`: what the schema for editors takes and what it refuses
//! - `page`: what a report holds, and how it looks in a browser
//! - `alone`: stages that work by case without the runner: what they write, and what they take for done
//! - `transformers`: encoders learnt from images, teachers on top of them (`tiny-transformers.yaml`), Table 5
//! - `models`: models that know how scans were shown to them
//! - `submission`: the image of the final student, what its cases cost, and how it runs on a real Docker
//! - `docker`: that Docker, where it is installed
//! - `partial`: models from datasets that label different things, from training to scores
//! - `papers`: the pipelines of DoDNet, MultiTalent and mutual learning, on folders as published
//! - `plan`: what a run will take, told before it
//! - `collection`: four datasets with contradicting definitions, from `flare init` to a model
//! - `convert`: DICOM studies as a dataset
//! - `filtering`: pseudo-labels with trust in them, learned from in two rounds
//! - `imported`: models that another program has trained, from its folder to labels
//! - `memory`: what a worker holds of a large scan
//! - `processes`: trainings in several processes
//! - `lab`: a folder with a pipeline file, and the program that runs it

mod alone;
mod bad_data;
mod bad_places;
mod changed;
mod collection;
mod convert;
mod docker;
mod editors;
mod filtering;
mod imported;
mod killed;
mod lab;
mod memory;
mod method;
mod models;
mod page;
mod papers;
mod partial;
mod plan;
mod processes;
mod submission;
mod transformers;
mod validator;
