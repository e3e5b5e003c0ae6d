#!/usr/bin/env node
import { start } from "./start.js";

void start(async () => (await import("./pvbus-main.js")).main());
