#!/usr/bin/env node
import { start } from "./start.js";

void start(async () => (await import("./hostctl-main.js")).main());
