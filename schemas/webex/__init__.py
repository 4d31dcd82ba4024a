"""Generated code for the interface of Webex Contact Center's media forking."""
