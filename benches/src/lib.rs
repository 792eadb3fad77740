//! The benchmarks are the files beside src/.
