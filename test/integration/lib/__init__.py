"""What the integration tests share: real runtimes and engines, a network whose far side counts
packets, and the programs under test. Only the standard library."""
