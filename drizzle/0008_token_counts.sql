ALTER TABLE "chat"."messages" ADD COLUMN "token_count" integer;--> statement-breakpoint
ALTER TABLE "chat"."messages" ADD CONSTRAINT "messages_token_count" CHECK (token_count >= 0);