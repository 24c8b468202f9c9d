"""What tests share that is no test: servers, clients, scenarios, tables of cases."""
