DROP INDEX "chat"."jobs_due";--> statement-breakpoint
CREATE INDEX "jobs_due_by_kind" ON "chat"."jobs" USING btree ("kind","run_at") WHERE status = 'queued';